"""Detection by a tiny random model: the same boxes as `transformers` gives, whoever shares the batch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from server.dialects.engine import Prediction
from server.errors import BadRequest
from server.replicas.vision import VisionEngine
from server.spec import Limits
from tests.fixtures import pictures, tiny_detector


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    tiny_detector.build(folder)
    return folder


@pytest.fixture
async def detector(detector_folder: Path) -> AsyncIterator[VisionEngine]:
    engine = await VisionEngine.start(str(detector_folder), "object-detection", Limits(), "cpu")
    yield engine
    await engine.stop()


async def test_detections(detector: VisionEngine) -> None:
    (found,) = await detector.predict([pictures.plain(60, 40)], {"threshold": 0}, "r")
    assert len(found) == tiny_detector.QUERIES
    for each in found:
        assert each.label in tiny_detector.LABELS
        assert each.box is not None
        xmin, ymin, xmax, ymax = each.box
        assert 0 <= xmin <= xmax <= 60
        assert 0 <= ymin <= ymax <= 40
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)
    middle = (scores[0] + scores[-1]) / 2
    (sure,) = await detector.predict([pictures.plain(60, 40)], {"threshold": middle}, "r")
    assert sure == [each for each in found if each.score >= middle]
    assert 0 < len(sure) < len(found)
    assert await detector.predict([pictures.plain(60, 40)], {"threshold": 1}, "r") == [[]]


async def test_detections_are_those_of_transformers(detector: VisionEngine, detector_folder: Path) -> None:
    model = AutoModelForObjectDetection.from_pretrained(detector_folder).eval()
    processor = AutoImageProcessor.from_pretrained(detector_folder)
    with torch.inference_mode():
        pixels = processor(images=Image.new("RGB", (60, 40), "red"), return_tensors="pt")["pixel_values"]
        (expected,) = processor.post_process_object_detection(
            model(pixel_values=pixels), threshold=0.2, target_sizes=[(40, 60)]
        )
    (found,) = await detector.predict([pictures.plain(60, 40)], {"threshold": 0.2}, "r")
    assert len(found) == len(expected["scores"]) > 0
    assert sorted(each.score for each in found) == pytest.approx(
        sorted(expected["scores"].tolist()), abs=1e-5
    )


async def test_a_detection_does_not_depend_on_its_batch(detector: VisionEngine) -> None:
    sizes = [(60, 40), (40, 60), (64, 64), (33, 90), (60, 40), (90, 40)]
    images = [
        pictures.plain(*size, colour) for size, colour in zip(sizes, ["red", "blue", "lime"] * 2, strict=True)
    ]
    together = await detector.predict(images, {"threshold": 0}, "r")
    alone = [(await detector.predict([image], {"threshold": 0}, "r"))[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        assert [each.score for each in one] == pytest.approx([each.score for each in other], abs=1e-5)
        assert [_box(each) for each in one] == [pytest.approx(_box(each), abs=1e-2) for each in other]


async def test_an_image_that_the_processor_cannot_resize_is_refused(detector: VisionEngine) -> None:
    with pytest.raises(BadRequest, match="300 x 4"):
        await detector.predict([pictures.plain(300, 4)], {}, "r")


def _box(prediction: Prediction) -> tuple[float, float, float, float]:
    assert prediction.box is not None
    return prediction.box

"""Classification by the digits model that ships: answers, formats, bad images, bounds, what is loaded."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForImageClassification

import models
from server.dialects.engine import Prediction
from server.dialects.images import FORMATS
from server.errors import BadRequest, ModelFailed, Throttled, Unavailable
from server.replicas.vision import Query, VisionEngine, VisionModel
from server.spec import Limits
from tests.fixtures import pictures

DIGITS = Path(models.__file__).parent / "weights" / "hearth-digits"


@pytest.fixture
async def digits() -> AsyncIterator[VisionEngine]:
    engine = await VisionEngine.start(
        str(DIGITS), "image-classification", Limits(max_image_pixels=1_000_000), "cpu"
    )
    yield engine
    await engine.stop()


async def test_reads_digits(digits: VisionEngine) -> None:
    written = pictures.digits(200)
    answers = await digits.predict([data for data, _ in written], {}, "r")
    assert sum(answer[0].label == label for answer, (_, label) in zip(answers, written, strict=True)) >= 194
    for answer in answers:
        assert len(answer) == 5
        assert all(better.score >= worse.score for better, worse in itertools.pairwise(answer))
        assert all(prediction.box is None for prediction in answer)


async def test_scores_are_those_of_transformers(digits: VisionEngine) -> None:
    data, _ = pictures.digits(3)[2]
    model = AutoModelForImageClassification.from_pretrained(DIGITS).eval()
    with torch.inference_mode():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        pixels = AutoImageProcessor.from_pretrained(DIGITS)(images=image, return_tensors="pt")
        expected = model(**pixels).logits.softmax(-1)[0]
    (answer,) = await digits.predict([data], {"top_k": 10}, "r")
    assert {each.label: each.score for each in answer} == pytest.approx(
        {model.config.id2label[index]: float(score) for index, score in enumerate(expected)}, abs=1e-5
    )


async def test_top_k_and_threshold(digits: VisionEngine) -> None:
    data = pictures.digits(1)[0][0]
    ((best,),) = await digits.predict([data], {"top_k": 1}, "r")
    assert best.label == "0"
    (everything,) = await digits.predict([data], {"top_k": 10**6}, "r")
    assert sorted(each.label for each in everything) == [str(digit) for digit in range(10)]
    assert sum(each.score for each in everything) == pytest.approx(1, abs=1e-5)
    (sure,) = await digits.predict([data], {"threshold": 0.5}, "r")
    assert sure == [best]


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_k", 0), ("top_k", True), ("top_k", 1.5), ("top_k", "5"), ("threshold", -0.1), ("threshold", 1.01),
     ("threshold", float("nan")), ("threshold", "0.5"), ("threshold", None), ("temperature", 1)],
)  # fmt: skip
async def test_bad_parameters_are_named(digits: VisionEngine, name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=name) as caught:
        await digits.predict([pictures.digits(1)[0][0]], {name: value}, "r")
    assert caught.value.field == f"parameters.{name}"


@pytest.mark.parametrize("form", FORMATS)
async def test_formats(digits: VisionEngine, form: str) -> None:
    assert len((await digits.predict([pictures.plain(40, 30, "navy", form)], {}, "r"))[0]) == 5


async def test_modes_are_brought_to_what_the_model_sees(digits: VisionEngine) -> None:
    """A black stroke is the same stroke as grey, 16-bit, palette or on a transparent ground."""
    stroke = Image.new("L", (24, 24), 255)
    stroke.paste(0, (10, 2, 14, 22))
    clear = Image.new("RGBA", (24, 24), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (10, 2, 14, 22))
    deep = Image.new("I;16", (24, 24), 65535)
    deep.paste(0, (10, 2, 14, 22))
    variants = [stroke, stroke.convert("RGB"), stroke.convert("P"), stroke.convert("1"), clear, deep]
    answers = await digits.predict([pictures.encode(image) for image in variants], {"top_k": 10}, "r")
    first = {each.label: each.score for each in answers[0]}
    for answer in answers[1:]:
        assert {each.label: each.score for each in answer} == pytest.approx(first, abs=1e-3)


async def test_exif_says_which_way_is_up(digits: VisionEngine) -> None:
    upright = Image.open(io.BytesIO(pictures.digits(5)[4][0])).resize((40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise
    buffer = io.BytesIO()
    upright.rotate(90).save(buffer, "PNG", exif=exif)
    held, plain = await digits.predict([buffer.getvalue(), pictures.encode(upright)], {}, "r")
    assert held == plain
    assert plain[0].label == "4"


BAD = {
    "nothing": b"",
    "text": b"hello, I am no image",
    "html": b"<html><body>404</body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
    "truncated": pictures.digits(1)[0][0][:60],
    "truncated jpeg": pictures.plain(300, 300, form="JPEG")[:700],
    "bomb": pictures.png_claiming(50_000, 50_000),
    "smaller bomb": pictures.png_claiming(1_001, 1_000),
    "line": pictures.plain(500, 1),
    "broken exif": pictures.with_broken_exif(),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
async def test_bad_images_are_refused(digits: VisionEngine, data: bytes) -> None:
    with pytest.raises(BadRequest):
        await digits.predict([data], {}, "r")
    assert digits.alive()


async def test_a_bad_image_does_not_harm_who_shares_its_batch(digits: VisionEngine) -> None:
    good = pictures.digits(20)
    requests = [digits.predict([data], {"top_k": 1}, "good") for data, _ in good]
    spoiled = [digits.predict([good[0][0], data], {}, "bad") for data in BAD.values()]
    outcomes = await asyncio.gather(*requests, *spoiled, return_exceptions=True)
    for outcome, (_, label) in zip(outcomes, good, strict=False):
        assert isinstance(outcome, list)
        assert outcome[0][0].label == label
    assert all(isinstance(outcome, BadRequest) for outcome in outcomes[len(good) :])


async def test_200_requests_at_once_get_their_own_answers(digits: VisionEngine) -> None:
    written = pictures.digits(200)
    alone = await digits.predict([data for data, _ in written], {}, "together")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    answers = await asyncio.gather(*(digits.predict([data], {}, "one") for data, _ in written))
    ticking.cancel()
    assert ticks > 200  # the event loop went on while the model worked
    for (answer,), expected in zip(answers, alone, strict=True):
        assert [each.label for each in answer[:1]] == [each.label for each in expected[:1]]
        assert {each.label: each.score for each in answer} == pytest.approx(
            {each.label: each.score for each in expected}, abs=1e-4
        )


async def test_too_many_are_refused() -> None:
    limits = Limits(max_in_flight=2, max_batch=4)
    engine = await VisionEngine.start(str(DIGITS), "image-classification", limits, "cpu")
    data = pictures.digits(1)[0][0]
    with pytest.raises(BadRequest, match="at most 4"):
        await engine.predict([data] * 5, {}, "r")
    outcomes = await asyncio.gather(
        *(engine.predict([data], {}, "r") for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Throttled) for outcome in outcomes) == 16
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 4
    await engine.stop()
    assert not engine.alive()
    with pytest.raises(Unavailable):
        await engine.predict([data], {}, "r")


async def test_a_task_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="generate is no task for images"):
        await VisionEngine.start(str(DIGITS), "generate", Limits(), "cpu")


async def test_a_checkpoint_without_the_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="no weights for image-classification"):
        await VisionEngine.start(str(_headless(tmp_path)), "image-classification", Limits(), "cpu")


def _headless(folder: Path) -> Path:
    """The digits model with its classifier cut off."""
    cut = folder / "headless"
    cut.mkdir()
    for file in DIGITS.glob("*config.json"):
        (cut / file.name).write_bytes(file.read_bytes())
    weights = load_file(DIGITS / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "classifier" not in name},
        cut / "model.safetensors",
        metadata={"format": "pt"},
    )
    return cut


async def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    for file in DIGITS.glob("*config.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(DIGITS / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        await VisionEngine.start(str(tmp_path), "image-classification", Limits(), "cpu")


@pytest.fixture(scope="module")
def digits_model() -> VisionModel:
    return VisionModel(str(DIGITS), "image-classification", "cpu", 1_000_000)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_images_never_break_the_model(digits_model: VisionModel, data: st.DataObject) -> None:
    """Any damage is either decoded or refused as BadRequest; nothing else comes out."""
    form = data.draw(st.sampled_from(FORMATS))
    whole = bytearray(pictures.plain(20, 20, form=form))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    (outcome,) = digits_model.answer([Query(damaged, 3, 0.0)])
    assert isinstance(outcome, BadRequest) or [type(each) for each in outcome] == [Prediction] * 3  # type: ignore[union-attr]

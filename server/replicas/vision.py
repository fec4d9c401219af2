"""Image classification and object detection: a `transformers` model behind adaptive batching."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForImageClassification, AutoModelForObjectDetection

from server.dialects.engine import Prediction
from server.dialects.images import open_image
from server.errors import BadRequest, HearthError, ModelFailed
from server.replicas.batching import Batcher
from server.spec import Limits, Task

MAX_ASPECT = 200
"""Longer side over shorter side. Processors that resize the shorter side to a fixed length would
otherwise turn a one-pixel-high line into gigabytes."""

MAX_FORWARD_PIXELS = 8_000_000
"""Model input pixels of one forward pass, which bounds its activations: 159 images of 224 x 224, or 7 of
800 x 1333."""

DEFAULT_TOP_K = 5
"""Labels per classified image; detections are bounded by their score only."""
DEFAULT_THRESHOLD: dict[Task, float] = {"image-classification": 0.0, "object-detection": 0.5}


@dataclass(frozen=True, slots=True)
class Query:
    """One encoded image and what is asked about it."""

    data: bytes
    top_k: int | None
    threshold: float


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One image as the model takes it: tensors without a batch dimension, and its size in pixels."""

    inputs: dict[str, torch.Tensor]
    height: int
    width: int

    @property
    def shapes(self) -> tuple[tuple[str, torch.Size], ...]:
        return tuple((name, tensor.shape) for name, tensor in self.inputs.items())


class VisionModel:
    """The synchronous half: bytes to predictions, a batch at a time, on the thread that calls it."""

    def __init__(self, path_or_id: str, task: Task, device: str, max_pixels: int) -> None:
        """Loads safetensors only and no code of the model's own.

        Raises OSError or ValueError (transformers' own words) for what cannot be loaded, ModelFailed for
        a checkpoint that lacks weights of the task's head.
        """
        if task not in DEFAULT_THRESHOLD:
            raise ValueError(f"{task} is no task for images; those are {', '.join(DEFAULT_THRESHOLD)}")
        kind = AutoModelForObjectDetection if task == "object-detection" else AutoModelForImageClassification
        model, report = kind.from_pretrained(
            path_or_id,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="auto" if device == "cuda" else torch.float32,
            output_loading_info=True,
        )
        if absent := sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])]):
            named = ", ".join(absent[:5])
            raise ModelFailed(f"{path_or_id} has no weights for {task}: {len(absent)} missing ({named}, ...)")
        self.task = task
        self.model = model.to(device).eval()
        self.processor = AutoImageProcessor.from_pretrained(path_or_id, trust_remote_code=False)
        self.labels: dict[int, str] = {int(index): str(name) for index, name in model.config.id2label.items()}
        self._max_pixels = max_pixels
        self._mode = "L" if getattr(model.config, "num_channels", 3) == 1 else "RGB"
        self._accepts = frozenset(inspect.signature(model.forward).parameters)

    def warm_up(self) -> None:
        """One blank image through everything; raises what it raises."""
        query = Query(b"", DEFAULT_TOP_K, DEFAULT_THRESHOLD[self.task])
        self._forward([self._prepare(Image.new("RGB", (64, 64)))], [query])

    def answer(self, queries: Sequence[Query]) -> list[list[Prediction] | HearthError]:
        """One outcome per query. Images are decoded one after another: one full-size image in memory."""
        outcomes: dict[int, list[Prediction] | HearthError] = {}
        ready: dict[int, _Prepared] = {}
        for index, query in enumerate(queries):
            try:
                ready[index] = self._prepare(open_image(query.data, self._max_pixels))
            except HearthError as error:
                outcomes[index] = error
        for chosen in _alike(ready):
            answers = self._forward([ready[index] for index in chosen], [queries[index] for index in chosen])
            outcomes.update(zip(chosen, answers, strict=True))
        return [outcomes[index] for index in range(len(queries))]

    def _prepare(self, image: Image.Image) -> _Prepared:
        if max(image.size) > MAX_ASPECT * min(image.size):
            size = f"{image.width} x {image.height}"
            raise BadRequest(f"the image is {size} pixels; its sides may differ {MAX_ASPECT}-fold at most")
        try:
            image = _upright(image, self._mode)
            features = self.processor(images=image, return_tensors="pt")
        except HearthError:
            raise
        except Exception as error:  # the warm-up went through here, so it is this image's fault
            size = f"{image.width} x {image.height}"
            raise BadRequest(f"the image ({size} pixels) does not fit this model: {error}") from error
        inputs = {name: value[0] for name, value in features.items() if name in self._accepts}
        return _Prepared(inputs, image.height, image.width)

    @torch.inference_mode()
    def _forward(self, images: Sequence[_Prepared], queries: Sequence[Query]) -> list[list[Prediction] | HearthError]:
        inputs = {
            name: torch.stack([image.inputs[name] for image in images]).to(self.model.device)
            for name in images[0].inputs
        }
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        outputs = self.model(**inputs)
        if self.task == "object-detection":
            return self._detections(outputs, images, queries)
        return self._classes(outputs.logits.float().cpu(), queries)

    def _classes(self, logits: torch.Tensor, queries: Sequence[Query]) -> list[list[Prediction] | HearthError]:
        """`logits` is (images, labels)."""
        several = self.model.config.problem_type == "multi_label_classification" or logits.shape[1] == 1
        scores = logits.sigmoid() if several else logits.softmax(-1)
        every = torch.arange(logits.shape[1])
        return [self._best(row, every, None, query) for row, query in zip(scores, queries, strict=True)]

    def _detections(
        self, outputs: Any, images: Sequence[_Prepared], queries: Sequence[Query]
    ) -> list[list[Prediction] | HearthError]:
        found = self.processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[(image.height, image.width) for image in images]
        )
        answers: list[list[Prediction] | HearthError] = []
        for each, image, query in zip(found, images, queries, strict=True):
            edges = torch.tensor([image.width, image.height, image.width, image.height])
            boxes = torch.minimum(each["boxes"].float().cpu().clamp(min=0), edges)
            answers.append(self._best(each["scores"].float().cpu(), each["labels"].cpu(), boxes, query))
        return answers

    def _best(
        self, scores: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor | None, query: Query
    ) -> list[Prediction] | HearthError:
        """Predictions of one image from `scores` (n), `labels` (n) and `boxes` (n, 4)."""
        if not bool(scores.isfinite().all()):
            return ModelFailed("the model answered a score that is not a number")
        order = scores.argsort(descending=True, stable=True)[: query.top_k]
        return [
            Prediction(
                label=self.labels[int(labels[index])],
                score=float(scores[index]),
                box=None if boxes is None else _corners(boxes[index]),
            )
            for index in order.tolist()
            if float(scores[index]) >= query.threshold
        ]


class VisionEngine:
    """Answers for images; an `ImageEngine`. Requests that arrive together share forward passes."""

    def __init__(self, model: VisionModel, limits: Limits, max_batch: int, max_wait_ms: float) -> None:
        self._model = model
        self._limits = limits
        self.max_batch = max_batch
        self._batcher: Batcher[Query, list[Prediction]] = Batcher(
            model.answer,
            max_size=max_batch,
            max_wait_ms=max_wait_ms,
            max_waiting=max(limits.max_in_flight, limits.max_batch),
            name="vision",
        )

    @classmethod
    async def start(
        cls,
        path_or_id: str,
        task: Task,
        limits: Limits,
        device: str,
        max_batch: int = 32,
        max_wait_ms: float = 2.0,
    ) -> VisionEngine:
        """Load and try the model off the event loop; `device` is "cpu" or "cuda".

        Raises what `VisionModel` raises.
        """

        def load() -> VisionModel:
            model = VisionModel(path_or_id, task, device, limits.max_image_pixels)
            model.warm_up()
            return model

        return cls(await asyncio.to_thread(load), limits, max_batch, max_wait_ms)

    async def predict(
        self, images: Sequence[bytes], parameters: Mapping[str, Any], request_id: str
    ) -> list[list[Prediction]]:
        """See `ImageEngine`. `top_k` and `threshold` hold for both tasks; `top_k` above the number of
        labels asks for all of them. Also raises Throttled when too many images wait."""
        if len(images) > self._limits.max_batch:
            raise BadRequest(f"{len(images)} images in one request; at most {self._limits.max_batch}")
        top_k, threshold = _chosen(parameters, self._model.task)
        return await self._batcher.submit([Query(data, top_k, threshold) for data in images])

    def alive(self) -> bool:
        return self._batcher.alive()

    async def stop(self) -> None:
        """Refuse what waits, finish the batch that runs."""
        await self._batcher.stop()


def _alike(ready: Mapping[int, _Prepared]) -> Iterator[list[int]]:
    """Indices of images that can share a forward pass: equal shapes, so that no image is padded and no
    answer depends on who else was in the batch; at most MAX_FORWARD_PIXELS together."""
    groups: dict[tuple[tuple[str, torch.Size], ...], list[int]] = {}
    for index, prepared in ready.items():
        groups.setdefault(prepared.shapes, []).append(index)
    for indices in groups.values():
        area = math.prod(ready[indices[0]].inputs["pixel_values"].shape[-2:])
        size = max(1, MAX_FORWARD_PIXELS // area)
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _upright(image: Image.Image, mode: str) -> Image.Image:
    """`image` as its EXIF says it is held, on white where transparent, as `mode` ("RGB" or "L")."""
    if image.mode in ("I", "F"):
        raise BadRequest(f"images with 32 bits per channel (mode {image.mode}) are not supported")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _corners(box: torch.Tensor) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = box.tolist()
    return xmin, ymin, xmax, ymax


def _chosen(parameters: Mapping[str, Any], task: Task) -> tuple[int | None, float]:
    """(top_k, threshold). Raises BadRequest that names what is unknown or out of range."""
    for name in parameters:
        if name not in ("top_k", "threshold"):
            raise BadRequest(f"{name} is unknown; {task} takes top_k and threshold", field=f"parameters.{name}")
    top_k = parameters.get("top_k", DEFAULT_TOP_K if task == "image-classification" else None)
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise BadRequest("top_k must be an integer of at least 1", field="parameters.top_k")
    threshold = parameters.get("threshold", DEFAULT_THRESHOLD[task])
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise BadRequest("threshold must be a number from 0 to 1", field="parameters.threshold")
    return top_k, float(threshold)

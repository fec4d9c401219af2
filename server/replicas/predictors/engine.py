"""Models without code as an engine: bodies in, predictions out, the rows of concurrent requests together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from models.formats import Framework, ModelFile, find_model
from server.dialects import predictions as written
from server.dialects.engine import Answer, Invocation
from server.dialects.tables import rows_of
from server.errors import BadRequest, HearthError, ModelFailed
from server.replicas.batching import Batcher
from server.replicas.options import PredictOptions
from server.replicas.predictors.onnx_session import OnnxSession
from server.replicas.predictors.predictor import Predictor
from server.replicas.predictors.scikit_learn import ScikitLearn
from server.replicas.predictors.torchscript import TorchScript
from server.replicas.predictors.xgboost_booster import XGBoost
from server.spec import VariantSpec

log = structlog.get_logger(__name__)

LOADERS: Mapping[Framework, Callable[[ModelFile, PredictOptions, int], Predictor]] = {
    "scikit-learn": ScikitLearn.load,
    "xgboost": XGBoost.load,
    "pytorch": TorchScript.load,
    "onnx": OnnxSession.load,
}

MODULES: Mapping[Framework, tuple[str, ...]] = {
    "scikit-learn": ("sklearn", "skops.io"),
    "xgboost": ("xgboost",),
    "pytorch": ("torch",),
    "onnx": ("onnxruntime",),
}
"""What each framework's models share, once it is imported."""

ROWS_TOGETHER = 4096
"""Rows of several requests that are predicted in one call at most; one request's rows are never torn apart."""


@dataclass(frozen=True, slots=True)
class _Query:
    """One request, read: its rows as the model takes them, and how it wants its answer."""

    values: NDArray[Any]
    media_type: str
    wrapped: bool

    @property
    def shape(self) -> tuple[object, ...]:
        """Requests of one shape may share a call."""
        return (self.values.dtype, *self.values.shape[1:])


class PredictEngine:
    """A `PayloadEngine` on a `Predictor`. Bodies are read and written in the batch's thread, not on the loop."""

    def __init__(self, predictor: Predictor, options: PredictOptions, max_waiting: int) -> None:
        self._predictor = predictor
        self._default_accept = written.chosen(options.default_accept or "", predictor.traits.default_accept)
        self._batcher: Batcher[Invocation, Answer] = Batcher(
            self._answers,
            max_size=options.max_batch,
            max_wait_ms=options.max_wait_ms,
            max_waiting=max_waiting,
            name="predict",
        )

    @classmethod
    async def start(cls, folder: Path, variant: VariantSpec, options: PredictOptions) -> PredictEngine:
        """Finds and loads the folder's model off the event loop. Raises BadRequest with what is wrong with it."""
        threads = max(1, int(variant.resources.num_cpus))

        def load() -> Predictor:
            try:
                file = find_model(folder, options.framework, allow_pickle=options.allow_pickle)
            except ValueError as error:
                raise BadRequest(str(error), field="model") from error
            log.info("loading", file=str(file.path), framework=file.framework)
            return LOADERS[file.framework](file, options, threads)

        return cls(await asyncio.to_thread(load), options, variant.limits.max_in_flight)

    async def invoke(self, invocation: Invocation) -> Answer:
        """See `PayloadEngine`. Also raises Throttled when too many requests wait."""
        (found,) = await self._batcher.submit([invocation])
        return found

    def alive(self) -> bool:
        return self._batcher.alive()

    async def stop(self) -> None:
        """Refuse what waits, finish the batch that runs, and let go of the model. May be called twice."""
        await self._batcher.stop()
        self.__dict__.pop("_predictor", None)  # engine and batcher refer to each other, so neither would go by itself

    def _answers(self, invocations: Sequence[Invocation]) -> list[Answer | HearthError]:
        """One outcome for each; runs in the batch's thread."""
        outcomes: dict[int, Answer | HearthError] = {}
        queries: dict[int, _Query] = {}
        for index, invocation in enumerate(invocations):
            try:
                queries[index] = self._read(invocation)
            except Exception as error:
                outcomes[index] = self._meant(error)
        for group in _alike(queries):
            outcomes.update(zip(group, self._predicted([queries[index] for index in group]), strict=True))
        return [outcomes[index] for index in range(len(invocations))]

    def _read(self, invocation: Invocation) -> _Query:
        media_type = written.chosen(invocation.accept, self._default_accept)
        rows = rows_of(invocation.body, invocation.content_type)
        values = self._predictor.arranged(rows)
        fixed = self._predictor.traits.rows_per_call
        if fixed not in (None, 1) and len(values) != fixed:
            raise BadRequest(f"this model takes exactly {fixed} rows at once; the body has {len(values)}")
        return _Query(values, media_type, rows.wrapped)

    def _predicted(self, queries: Sequence[_Query]) -> list[Answer | HearthError]:
        """Predicts the rows of all together; where that fails, each alone, so that only the bad one does."""
        values = queries[0].values if len(queries) == 1 else np.concatenate([query.values for query in queries])
        try:
            found = self._call(values)
        except Exception as error:
            if len(queries) > 1:
                return [outcome for query in queries for outcome in self._predicted([query])]
            return [self._meant(error)]
        ends = np.cumsum([len(query.values) for query in queries])[:-1]
        return [self._written(query, part) for query, part in zip(queries, np.split(found, ends), strict=True)]

    def _call(self, values: NDArray[Any]) -> NDArray[Any]:
        fixed = self._predictor.traits.rows_per_call
        step = fixed or len(values)
        parts = [self._predictor.predict(values[at : at + step]) for at in range(0, len(values), step)]
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if found.ndim == 0 or len(found) != len(values):
            raise ModelFailed(f"the model answered an array of {found.shape} for {len(values)} rows")
        return found

    def _written(self, query: _Query, found: NDArray[Any]) -> Answer | HearthError:
        one_line = self._predictor.traits.one_line_csv
        try:
            return written.answer(found, query.media_type, wrapped=query.wrapped, one_line=one_line)
        except Exception as error:
            return self._meant(error)

    def _meant(self, error: Exception) -> HearthError:
        if isinstance(error, HearthError):
            return error
        said = " ".join(str(error).split())[:500]
        if isinstance(error, self._predictor.traits.refusals):
            return BadRequest(f"the model refuses the rows: {said}")
        log.error("the model failed", exc_info=error)
        return ModelFailed(f"the model failed: {type(error).__name__}: {said}")


def _alike(queries: Mapping[int, _Query]) -> Iterator[list[int]]:
    """Indices of requests that share a call: of one shape, and together at most ROWS_TOGETHER rows."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, query in queries.items():
        groups.setdefault(query.shape, []).append(index)
    for indices in groups.values():
        chosen: list[int] = []
        count = 0
        for index in indices:
            rows = len(queries[index].values)
            if chosen and count + rows > ROWS_TOGETHER:
                yield chosen
                chosen, count = [], 0
            chosen.append(index)
            count += rows
        yield chosen

"""Many models behind one endpoint: each request names the one below the prefix that answers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from server.dialects.engine import Answer, Invocation, Parts
from server.dialects.target_model import TARGET_MODEL, named
from server.guard.model_metrics import ModelMetrics
from server.metrics.periods import Periods
from server.replicas.artifacts import Artifacts
from server.replicas.many import memory, options
from server.replicas.many.disk import Disk
from server.replicas.many.members import Members, Start
from server.replicas.many.prefix import Prefix
from server.replicas.many.room import Bounds
from server.replicas.many.shelf import Shelf
from server.replicas.many.space import Space
from server.spec import VariantSpec

COUNT_EVERY_S = 60.0
"""CloudWatch hears so often how many models are loaded, as from SageMaker."""
SHARE = 0.5
"""Of the machine's memory, where the variant does not say how much models may take."""


class ManyEngine:
    """A `PayloadEngine` that hands each request to its model. The dialect has made sure that it names one
    (`Engines.many`)."""

    def __init__(self, shelf: Shelf, disk: Disk, metrics: ModelMetrics) -> None:
        self._shelf = shelf
        self._disk = disk
        self._metrics = metrics
        self._counting = asyncio.create_task(self._count(), name="count of models")

    @classmethod
    async def start(
        cls, endpoint: str, variant: VariantSpec, artifacts: Artifacts, periods: Periods, start: Start
    ) -> ManyEngine:
        """`start` loads one model. Raises BadRequest for options that are none, or a folder that is not there."""
        chosen, theirs = options.of(variant)
        metrics = ModelMetrics(endpoint, variant.name, periods)
        prefix = await asyncio.to_thread(Prefix, variant.model, artifacts)
        most = chosen.model_cache_mb * options.MEGABYTE if chosen.model_cache_mb else int(memory.machine() * SHARE)
        bounds = Bounds(
            most, chosen.max_models, chosen.model_loads, chosen.model_wait_s, chosen.model_load_timeout_s,
            chosen.model_check_s,
        )  # fmt: skip
        disk = Disk(
            prefix, artifacts.cache / "many", chosen.model_disk_mb * options.MEGABYTE, metrics, lambda: shelf.spare(),
            chosen.model_loads,
        )  # fmt: skip
        shelf = Shelf(
            disk, Members(endpoint, theirs, start), Space(bounds, metrics), metrics, keep=variant.many != "Disabled"
        )
        return cls(shelf, disk, metrics)

    async def invoke(self, invocation: Invocation) -> Answer:
        """See `PayloadEngine`; also raises what `Shelf.take` does."""
        model = await self._shelf.take(named(invocation.headers[TARGET_MODEL]))
        assert model.loaded is not None
        held = _Held(lambda: self._shelf.give_back(model, answered=True))
        try:
            answer = await model.loaded.engine.invoke(invocation)
        except BaseException:
            held.let_go()
            raise
        if isinstance(answer.body, bytes):
            held.let_go()
            return answer
        return Answer(held.until_read(answer.body), answer.content_type)

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory, the least recently used first."""
        return self._shelf.names

    async def stop(self) -> None:
        """Ends every model. May be called twice."""
        self._counting.cancel()
        await self._shelf.stop()
        await self._disk.close()

    async def _count(self) -> None:
        while True:
            self._metrics.record_count()
            await asyncio.sleep(COUNT_EVERY_S)


class _Held:
    """A model that is held until its answer has been read."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back
        self._parts: Parts | None = None

    def until_read(self, parts: Parts) -> _Held:
        """These `Parts`, whose end lets go of the model."""
        self._parts = parts
        return self

    def let_go(self) -> None:
        """May be called twice."""
        if self._give_back is not None:
            self._give_back()
            self._give_back = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._parts is not None
        try:
            async for part in self._parts:
                yield part
        finally:
            self.let_go()

    async def aclose(self) -> None:
        assert self._parts is not None
        try:
            await self._parts.aclose()
        finally:
            self.let_go()

"""The memory that all models of a replica may take: what they take is measured, and room is made before it is filled.

What counts is the greater of two: what this process has grown by since it held no model, with the whole of what the
workers of customers' code take; and the sum of what each model took when it was loaded. The first sees what models
grow by while they answer; the second sees what the allocator hands from one model to the next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from server.errors import NotReady
from server.guard.model_metrics import ModelMetrics
from server.replicas.many import memory
from server.replicas.many.disk import too_big
from server.replicas.many.model import Estimate, Loader, Measure, Model
from server.replicas.many.room import Bounds, victims

MOST_REMEMBERED = 10_000
"""Versions of models whose size is remembered."""

Idle = Callable[[], list[Model]]
"""Models that nobody uses, the least recently used first."""
Away = Callable[[list[Model]], Awaitable[None]]
"""Unloads models; returns when their memory is free."""


class Space:
    """Used on one event loop."""

    def __init__(self, bounds: Bounds, metrics: ModelMetrics, measure: Measure = memory.taken) -> None:
        self.bounds = bounds
        self.over = False
        """Whether there was more than the bounds allow, and nobody could go."""
        self._metrics = metrics
        self._measure = measure
        self._present: set[Model] = set()
        """Every model that takes memory, or that some is kept free for."""
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._begun: dict[Model, tuple[int, int]] = {}
        """For each model that is being loaded: bytes of this process when that began, and `_events` then."""
        self._events = 0
        """Loads that began or ended, and models that went: where none came between, growth is one model's."""
        self._kinds: set[str] = set()
        """Of models whose shared part is here."""
        self._empty = 0
        """Bytes of this process without any model."""
        self._own = 0
        self._turn = asyncio.Lock()
        self._change = asyncio.Event()

    @property
    def reserved(self) -> int:
        """Bytes that the models take by what each was found to take."""
        return sum(model.bytes for model in self._present)

    @property
    def count(self) -> int:
        return len(self._present)

    def changed(self) -> None:
        """A model became idle, or went."""
        self._change.set()

    async def admit(self, model: Model, guess: Estimate, loader: Loader, idle: Idle, away: Away) -> None:
        """Returns when there is room for `model`, which is kept for it. Raises ModelFailed where it can never be,
        NotReady where models that are answering leave none for as long as a request may wait."""
        size = self._sizes.get((model.name, model.version), guess.bytes)
        if size > self.bounds.bytes:
            raise too_big(model.name, size, self.bounds.bytes, "memory")
        try:
            async with asyncio.timeout(self.bounds.wait_s), self._turn:
                await self._prepared(guess.kind, loader)
                await self._make_room(size, idle, away)
                model.bytes = size
                self._present.add(model)
                self._events += 1
                self._begun[model] = self._own, self._events
        except TimeoutError:
            raise NotReady(
                f"Model {model.name} is not ready: models that are answering take all the memory there is for models; "
                "try again."
            ) from None

    async def weigh(self, model: Model) -> None:
        """Notes what the model takes now that it is loaded. Raises ModelFailed where that is more than all may."""
        before, events = self._begun.pop(model)
        alone = events == self._events
        self._events += 1
        await self._used()
        if model.loaded is not None and not model.loaded.pids:
            files = model.folder.bytes if model.folder is not None else 0
            model.bytes = max(self._own - before, files) if alone else max(model.bytes, files)
        if model.bytes > self.bounds.bytes:
            raise too_big(model.name, model.bytes, self.bounds.bytes, "memory")
        self._sizes[model.name, model.version] = model.bytes
        while len(self._sizes) > MOST_REMEMBERED:
            self._sizes.popitem(last=False)

    async def free(self, model: Model) -> None:
        """What the model took is free."""
        if model in self._present:
            await asyncio.to_thread(memory.trim)
            self._present.discard(model)
            self._begun.pop(model, None)
            self._events += 1
            model.bytes = 0
        self.changed()

    async def relieve(self, idle: Idle, away: Away) -> None:
        """Has idle models go while there is more than the bounds allow."""
        async with self._turn:
            excess = await self._used() - self.bounds.bytes
            found = idle() if excess > 0 else []
            going = victims(found, excess, 0) or found
            self.over = excess > sum(model.bytes for model in going)
            await away(going)

    async def _make_room(self, size: int, idle: Idle, away: Away) -> None:
        while True:
            self._change.clear()
            used = await self._used()
            going = victims(idle(), used + size - self.bounds.bytes, len(self._present) + 1 - self.bounds.models)
            if going is None and len(found := idle()) == len(self._present):
                going = found  # what is left without any model is none of theirs
            if going is not None:
                await away(going)
                if going:
                    await self._used()
                return
            await self._change.wait()

    async def _prepared(self, kind: str, loader: Loader) -> None:
        """What models of a kind share is not counted as theirs."""
        if kind in self._kinds:
            return
        before = await asyncio.to_thread(self._measure, ())
        await asyncio.to_thread(loader.prepare, kind)
        after = await asyncio.to_thread(self._measure, ())
        self._empty += max(0, after.own - before.own)
        self._kinds.add(kind)

    async def _used(self) -> int:
        """Bytes that all models take, or are about to."""
        workers = {pid: model for model in self._present if model.loaded is not None for pid in model.loaded.pids}
        found = await asyncio.to_thread(self._measure, list(workers))
        self._own = found.own
        if not self._present:
            self._empty = found.own
        for model in set(workers.values()) & self._present:
            pids = model.loaded.pids if model.loaded is not None else ()
            model.bytes = max(1, sum(found.workers.get(pid, 0) for pid in pids))
        ahead = sum(model.bytes for model in self._present if model.loaded is None)
        measured = max(0, found.own - self._empty) + sum(found.workers.values()) + ahead
        used = max(measured, self.reserved)
        self._metrics.memory(used)
        return used

"""Models that take exactly what they say, and load and stop when a test lets them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server.dialects.engine import Answer, Invocation, PayloadEngine
from server.errors import ModelFailed, NoSuchModel
from server.guard.model_metrics import ModelMetrics
from server.metrics.periods import Periods
from server.replicas.many.disk import Folder
from server.replicas.many.memory import Taken
from server.replicas.many.model import Estimate
from server.replicas.many.room import Bounds
from server.replicas.many.shelf import Shelf
from server.replicas.many.space import Space

BASE = 1000
"""Bytes of the process without models."""


class Echo:
    async def invoke(self, invocation: Invocation) -> Answer:
        return Answer(invocation.body, "text/plain")


@dataclass(eq=False)
class FakeLoaded:
    world: World
    name: str
    size: int
    dead: bool = False
    engine: PayloadEngine = field(default_factory=Echo)
    pids: Sequence[int] = ()

    def alive(self) -> bool:
        return not self.dead

    async def stop(self) -> None:
        await self.world.pause()
        self.world.inside.discard(self)


class World:
    """Files, loader and memory of a shelf. `gate` holds loads while it is closed."""

    def __init__(self, sizes: dict[str, int], *, models: int = 100, most: int = 10**9, loads: int = 4,
                 wait_s: float = 30.0, check_s: float = 3600.0, keep: bool = True) -> None:  # fmt: skip
        self.sizes = sizes
        self.versions: dict[str, str] = dict.fromkeys(sizes, "1")
        self.broken: set[str] = set()
        self.inside: set[FakeLoaded] = set()
        self.loading: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()
        self.highest = self.most_models = self.most_loading = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.pauses = 0
        self.pins: Counter[tuple[str, str]] = Counter()
        self.dropped: list[str] = []
        self.bounds = Bounds(most, models, loads, wait_s, 60.0, check_s)
        metrics = ModelMetrics("m", "AllTraffic", Periods())
        self.space = Space(self.bounds, metrics, self.measure)
        self.shelf = Shelf(self, self, self.space, metrics, keep=keep)

    async def pause(self) -> None:
        for _ in range(self.pauses):
            await asyncio.sleep(0)

    def measure(self, _workers: Collection[int]) -> Taken:
        return Taken(BASE + sum(each.size for each in self.inside))

    def note(self) -> None:
        taken = sum(each.size for each in self.inside) + sum(self.sizes[name] for name in self.loading.elements())
        self.highest = max(self.highest, taken)
        self.most_models = max(self.most_models, len(self.inside) + self.loading.total())
        self.most_loading = max(self.most_loading, self.loading.total())

    async def look(self, name: str) -> str:
        await self.pause()
        if name not in self.versions:
            raise NoSuchModel(f"no {name}")
        return self.versions[name]

    async def pinned(self, key: tuple[str, str]) -> Folder:
        await self.pause()
        self.pins[key] += 1
        return Folder(key, Path(key[0]), Path(key[0]), 0)

    def unpin(self, folder: Folder) -> None:
        self.pins[folder.key] -= 1
        assert self.pins[folder.key] >= 0

    async def drop(self, folder: Folder) -> None:
        self.dropped.append(folder.key[0])

    def estimate(self, folder: Path) -> Estimate:
        return Estimate("fake", self.sizes[folder.name])

    def prepare(self, kind: str) -> None:
        return

    async def load(self, name: str, folder: Path) -> FakeLoaded:
        self.loads[name] += 1
        self.loading[name] += 1
        self.note()
        try:
            await self.gate.wait()
            await self.pause()
            if name in self.broken:
                raise ModelFailed("it is broken")
            loaded = FakeLoaded(self, name, self.sizes[name])
            self.inside.add(loaded)
        finally:
            self.loading[name] -= 1
        self.note()
        return loaded

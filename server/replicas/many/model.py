"""One version of a model, and what stands between the shelf that holds it and where it comes from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from server.dialects.engine import PayloadEngine
from server.replicas.many.disk import Folder
from server.replicas.many.memory import Taken


class Loaded(Protocol):
    """A model that answers."""

    @property
    def engine(self) -> PayloadEngine: ...

    @property
    def pids(self) -> Sequence[int]:
        """The processes of its own that it runs in, each the leader of its group; none: it is in this one."""
        ...

    def alive(self) -> bool: ...

    async def stop(self) -> None: ...


class Files(Protocol):
    """Where the files of models are; see `server.replicas.many.disk.Disk`."""

    async def look(self, name: str) -> str: ...
    async def pinned(self, key: tuple[str, str]) -> Folder: ...
    def unpin(self, folder: Folder) -> None: ...
    async def drop(self, folder: Folder) -> None: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model's files tell of it: of which kind it is, and the bytes of memory that it will take."""

    kind: str
    bytes: int


class Loader(Protocol):
    """Makes files a model that answers."""

    def estimate(self, folder: Path) -> Estimate:
        """Blocking. Raises BadRequest for files that are no model."""
        ...

    def prepare(self, kind: str) -> None:
        """Brings in what models of a kind share, so that it is not counted as the first one's. Blocking."""
        ...

    async def load(self, name: str, folder: Path) -> Loaded:
        """Raises ModelFailed."""
        ...


Measure = Callable[[Collection[int]], Taken]
"""See `server.replicas.many.memory.taken`."""


@dataclass(slots=True, eq=False)
class Model:
    """From the first request for it until nothing of it is left."""

    name: str
    version: str = ""
    folder: Folder | None = None
    loaded: Loaded | None = None
    bytes: int = 0
    """Memory that it takes; while it is being loaded, that which is kept free for it."""
    holds: int = 0
    """Requests that wait for it, or that it answers."""
    retired: bool = False
    """Gone from the shelf; it only answers what it has begun."""
    answered: bool = False
    looked: float = field(default_factory=time.monotonic)
    """When its version was last compared with what lies below the prefix."""
    looking: bool = False
    loading: asyncio.Task[None] | None = None

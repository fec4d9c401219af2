"""The adapters that a replica holds: the controller says which, over and over, and this makes it true.

An adapter that cannot be loaded is tried again after a while, as long as it is wanted: its files may come later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from server.errors import HearthError
from server.replicas.artifacts import Artifacts

log = structlog.get_logger(__name__)

RETRY_S = 30.0
MAX_ERROR = 900
"""Characters of a reason; FailureReason has 1024 in the service model."""


class Loader(Protocol):
    """What an engine can do with adapters."""

    async def load(self, name: str, folder: Path) -> None:
        """Also in place of one that it has of this name. Raises HearthError with why it cannot."""
        ...

    async def unload(self, name: str) -> None: ...


class NoLoader:
    """An engine that takes no adapters."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def load(self, name: str, folder: Path) -> None:
        raise HearthError(self._why)

    async def unload(self, name: str) -> None:
        return


@dataclass(frozen=True, slots=True)
class Held:
    """What became of an adapter: which version it is, and why that could not be loaded, if so."""

    version: int
    error: str = ""
    tried_at: float = 0.0

    def to_wire(self) -> dict[str, Any]:
        kept = asdict(self)
        del kept["tried_at"]
        return kept


class Adapters:
    """What one replica should hold, and what it does. `hold` belongs to the engine's event loop."""

    def __init__(self, artifacts: Artifacts, clock: Callable[[], float] = time.monotonic) -> None:
        self._artifacts = artifacts
        self._clock = clock
        self._held: dict[str, Held] = {}
        self._loaded: dict[str, int] = {}

    @property
    def names(self) -> Collection[str]:
        """Of those that can be asked for; stays true as they come and go."""
        return self._loaded.keys()

    def to_wire(self) -> dict[str, Any]:
        return {name: held.to_wire() for name, held in list(self._held.items())}

    def lacks(self, wanted: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether there is something to do about `wanted`."""
        return bool(self._held.keys() - wanted.keys()) or any(
            self._due(name, each["version"]) for name, each in wanted.items()
        )

    async def hold(self, loader: Loader, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Loads what is missing and drops what is too much, one call after another. Never raises for an adapter."""
        for name in self._held.keys() - wanted.keys():
            self._loaded.pop(name, None)
            await loader.unload(name)
            del self._held[name]
            log.info("adapter dropped", adapter=name)
        for name, each in wanted.items():
            if self._due(name, each["version"]):
                self._held[name] = await self._load(loader, name, each["url"], each["version"])

    def _due(self, name: str, version: int) -> bool:
        held = self._held.get(name)
        if held is None or held.version != version:
            return True
        return bool(held.error) and self._clock() - held.tried_at > RETRY_S

    async def _load(self, loader: Loader, name: str, url: str, version: int) -> Held:
        try:
            folder = await asyncio.to_thread(self._artifacts.folder, url, "artifactUrl")
            await loader.load(name, folder)
        except Exception as error:
            words = error.message if isinstance(error, HearthError) else f"{type(error).__name__}: {error}"
            log.warning("adapter not loaded", adapter=name, error=words)
            return Held(version, words[:MAX_ERROR] or "it cannot be loaded", self._clock())
        self._loaded[name] = version
        log.info("adapter loaded", adapter=name, version=version)
        return Held(version)

"""The identities that replicas decide by, as the controller serves them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from server.identity.directory import Used, note_used
from server.identity.snapshot import Camera, Snapshot
from server.store.store import Store

LOOK_S = 0.25
"""How old the version may be that a beat's answer carries."""


class Identities:
    """`camera` None: nobody is asked who they are."""

    def __init__(self, store: Store, camera: Camera | None) -> None:
        self._store = store
        self._camera = camera
        self._mutex = asyncio.Lock()
        self._version = -1
        self._looked_at = -LOOK_S
        self._taken: Snapshot | None = None

    async def version(self) -> int | None:
        """None: nobody is asked."""
        if self._camera is None:
            return None
        if time.monotonic() - self._looked_at > LOOK_S:
            self._version = await asyncio.to_thread(self._camera.version)
            self._looked_at = time.monotonic()
        return self._version

    async def snapshot(self) -> Snapshot:
        """The newest. Raises SealBroken, VaultLocked."""
        assert self._camera is not None
        async with self._mutex:
            newest = await asyncio.to_thread(self._camera.version)
            if self._taken is None or self._taken.version != newest:
                self._taken = await asyncio.to_thread(self._camera.take)
            return self._taken

    async def note_used(self, used: Used) -> None:
        """Keeps when access keys were last used."""
        if used:
            await asyncio.to_thread(note_used, self._store, used)


def read_used(wire: Any) -> Used:
    """Raises TypeError or ValueError."""
    return {str(id): (float(at), str(service), str(region)) for id, (at, service, region) in wire.items()}

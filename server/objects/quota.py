"""How many bytes an account's objects may have, as its quota says."""

from __future__ import annotations

import threading
import time

from sqlalchemy import Engine

from server.errors import Unavailable
from server.settings import Settings
from server.store import quotas
from server.store.quotas import MEGABYTE, STORAGE, Defaults
from server.store.store import Store

LOOK_S = 1.0
"""How old what is known of a quota may be."""


class StorageQuota:
    """Of the settings' account. For many threads."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._store = Store(engine, settings.account, settings.region)
        self._defaults = Defaults.of(settings)
        self._mutex = threading.Lock()
        self._known: tuple[float, int | None] | None = None

    def bytes(self) -> int | None:
        """None: as many as there is room for. A store that is away leaves what was known. Raises Unavailable where
        nothing was."""
        with self._mutex:
            if self._known is None or time.monotonic() - self._known[0] > LOOK_S:
                try:
                    limit = quotas.limit(self._store, self._defaults, STORAGE)
                except Unavailable:
                    if self._known is None:
                        raise
                    return self._known[1]
                self._known = (time.monotonic(), None if limit is None else int(limit * MEGABYTE))
            return self._known[1]

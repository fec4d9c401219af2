"""Tokens that an account is charged for: not those of a shadow variant, whose requests are all copies."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Charged:
    """Reads `used`, the tokens that the engine has read and made, without those of the time as a shadow. For any
    thread."""

    def __init__(self, used: Callable[[], int]) -> None:
        self._used = used
        self._lock = threading.Lock()
        self._shadow = False
        self._last = 0
        self._spared = 0

    def __call__(self) -> int:
        with self._lock:
            return self._read()

    def shadow(self, is_one: bool) -> None:
        """Whether this replica is of a shadow variant from now on."""
        with self._lock:
            self._read()
            self._shadow = is_one

    def _read(self) -> int:
        now = self._used()
        if self._shadow:
            self._spared += now - self._last
        self._last = now
        return now - self._spared

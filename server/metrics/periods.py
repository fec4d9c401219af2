"""What a replica measures, by stretches of ten seconds, until the controller has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from server.metrics.distribution import Distribution

PERIOD_S = 10
MAX_PENDING = 360
"""Periods that are kept while no controller takes them: an hour; then the oldest go."""


class Periods:
    """Values by metric and period. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_start: dict[int, dict[str, Distribution]] = {}

    def record(self, name: str, value: float) -> None:
        start = int(self._clock()) // PERIOD_S * PERIOD_S
        with self._lock:
            found = self._by_start.setdefault(start, {})
            if name not in found:
                found[name] = Distribution()
            found[name].add(value)

    def closed(self, *, all_of_them: bool = False) -> list[dict[str, Any]]:
        """Periods that have ended, or all, as they travel; each comes again until it was `delivered`."""
        now = self._clock()
        with self._lock:
            for start in sorted(self._by_start)[:-MAX_PENDING]:
                del self._by_start[start]
            return [
                {"start": start, "metrics": {name: values.to_wire() for name, values in metrics.items()}}
                for start, metrics in sorted(self._by_start.items())
                if all_of_them or start + PERIOD_S <= now
            ]

    def delivered(self, periods: list[dict[str, Any]]) -> None:
        """Forgets what somebody else keeps now."""
        with self._lock:
            for period in periods:
                self._by_start.pop(period["start"], None)

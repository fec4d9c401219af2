"""A token bucket: what flows in at a rate, and may be taken out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

LONGEST_WAIT_S = 3600


class Bucket:
    """Holds at most what flows in within `span_s`, and at least one. `rate` None: no limit.

    It may be charged with more than it has: then nothing is given until that has flowed in. A new rate gives nothing
    and takes what is beyond the new size, so that several buckets which share a rate hold no more than it together.
    """

    def __init__(self, span_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate: float | None = None
        """In a second."""
        self._span_s = span_s
        self._clock = clock
        self._level = 1.0
        self._at = clock()

    @property
    def size(self) -> float:
        return math.inf if self.rate is None else max(1.0, self.rate * self._span_s) if self.rate > 0 else 0.0

    @property
    def level(self) -> float:
        """What it has; below 0: what it owes."""
        now = self._clock()
        if self.rate is not None:
            self._level = min(self.size, self._level + self.rate * (now - self._at))
        self._at = now
        return self._level

    def flow(self, rate: float | None) -> None:
        """From now on at another rate."""
        level = self.level
        if self.rate is None:
            level = min(level, 1.0)
        self.rate = rate
        self._level = min(level, self.size)

    def charge(self, amount: float) -> None:
        if self.rate is not None:
            self._level = self.level - amount

    def wait_s(self, wanted: float = 1.0) -> int:
        """Whole seconds until it has `wanted`, from 1 on."""
        missing = min(wanted, self.size or wanted) - self.level
        if not self.rate:
            return LONGEST_WAIT_S
        return min(LONGEST_WAIT_S, max(1, math.ceil(missing / self.rate)))

    def full_in_s(self) -> float:
        """Seconds until it is full."""
        return (self.size - self.level) / self.rate if self.rate else 0.0

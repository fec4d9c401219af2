"""Values of a metric over a stretch of time: how many, their sum, the least, the greatest, and any percentile.

Percentiles come from counts in buckets whose bounds grow by a constant factor, so that each is within 1 % of a
value that was seen (DDSketch, Masson et al. 2019, https://arxiv.org/abs/1908.10693). Two distributions add up to
the one of all their values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

ACCURACY = 0.01
GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GROWTH = math.log(GROWTH)
TINY = 1e-12
"""What is smaller counts as zero in percentiles."""


class Distribution:
    """Mutable; not for several threads at once."""

    __slots__ = ("_buckets", "count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.count = 0.0
        self.total = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf
        self._buckets: dict[int, float] = {}
        """Counts by bucket: `2n` for positive values up to GROWTH^n, `2n+1` for their negatives, `_ZERO` for zeros."""

    def add(self, value: float, count: float = 1.0) -> None:
        self.count += count
        self.total += value * count
        if value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value
        bucket = _bucket(value)
        self._buckets[bucket] = self._buckets.get(bucket, 0.0) + count

    def merge(self, other: Distribution) -> None:
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0.0) + count

    @property
    def average(self) -> float:
        return self.total / self.count

    def percentile(self, share: float) -> float:
        """The value that `share` (0 to 1) of all values do not exceed; NaN when only a summary is known."""
        if not self._buckets:
            return math.nan
        rank = share * (sum(self._buckets.values()) - 1)
        seen = 0.0
        for value, count in sorted((_value(bucket), count) for bucket, count in self._buckets.items()):
            seen += count
            if seen > rank:
                return min(max(value, self.minimum), self.maximum)
        return self.maximum

    @classmethod
    def summary(cls, count: float, total: float, minimum: float, maximum: float) -> Distribution:
        """What only its summary is known of; it has no percentiles."""
        made = cls()
        made.count, made.total, made.minimum, made.maximum = count, total, minimum, maximum
        return made

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution:
        made = cls()
        for value in values:
            made.add(value)
        return made

    def to_wire(self) -> list[Any]:
        buckets = [part for bucket in sorted(self._buckets.items()) for part in bucket]
        return [self.count, self.total, self.minimum, self.maximum, *buckets]

    @classmethod
    def from_wire(cls, wire: Sequence[Any]) -> Distribution:
        """Raises ValueError or TypeError for what `to_wire` did not make."""
        if len(wire) < 4 or len(wire) % 2:
            raise ValueError("a distribution has a count, a sum, two ends and pairs of bucket and count")
        made = cls.summary(*(float(part) for part in wire[:4]))
        made._buckets = {int(wire[n]): float(wire[n + 1]) for n in range(4, len(wire), 2)}
        return made


_ZERO = 1 << 40
"""The bucket of zeros: beyond any that a float has."""


def _bucket(value: float) -> int:
    size = abs(value)
    if size < TINY:
        return _ZERO
    number = math.ceil(math.log(size) / _LOG_GROWTH)
    return 2 * number + (value < 0)


def _value(bucket: int) -> float:
    """The middle of a bucket."""
    if bucket == _ZERO:
        return 0.0
    number, negative = divmod(bucket, 2)
    middle: float = 2 * GROWTH**number / (GROWTH + 1)
    return -middle if negative else middle

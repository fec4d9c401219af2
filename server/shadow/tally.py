"""What was found by comparing: counts and distributions that add up over replicas, and the report made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.metrics.distribution import Distribution

COUNTS = (
    "sampled", "compared", "dropped", "no_replica", "refused", "timed_out", "failed",
    "status_equal", "answers_compared", "answers_equal",
)  # fmt: skip
"""sampled = compared + dropped (the queue was full, or the replica stopped) + no_replica (of the shadow) + refused (the
shadow was busy) + timed_out + failed (it broke off) + those still under way."""
VALUES = ("production_ms", "shadow_ms", "similarity", "difference")
"""similarity: of two generated texts, 1 where they are equal; difference: the largest between two numbers at the same
place of two answers."""
MOST_STATUSES = 32


@dataclass(frozen=True, slots=True)
class Difference:
    """How one pair of answers compares. `equal` None: not to be told, as one failed or is too long to be kept."""

    statuses: tuple[int, int]
    equal: bool | None = None
    similarity: float | None = None
    largest: float | None = None

    @property
    def differs(self) -> bool:
        return self.statuses[0] != self.statuses[1] or self.equal is False


class Tally:
    """Mutable; not for several threads at once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.values = {name: Distribution() for name in VALUES}

    def count(self, name: str) -> None:
        self.counts[name] += 1

    def add(self, found: Difference, production_s: float, shadow_s: float) -> None:
        production, shadow = found.statuses
        self.count("compared")
        pair = f"{production}/{shadow}"
        if pair in self.statuses or len(self.statuses) < MOST_STATUSES:
            self.statuses[pair] += 1
        if production == shadow:
            self.count("status_equal")
        if found.equal is not None:
            self.count("answers_compared")
            if found.equal:
                self.count("answers_equal")
        self.values["production_ms"].add(production_s * 1e3)
        self.values["shadow_ms"].add(shadow_s * 1e3)
        if found.similarity is not None:
            self.values["similarity"].add(found.similarity)
        if found.largest is not None:
            self.values["difference"].add(found.largest)

    def merge(self, other: Tally) -> None:
        self.counts.update(other.counts)
        self.statuses.update(other.statuses)
        for name, values in other.values.items():
            self.values[name].merge(values)

    def to_wire(self) -> dict[str, Any]:
        values = {name: found.to_wire() for name, found in self.values.items() if found.count}
        return {"counts": dict(self.counts), "statuses": dict(self.statuses), "values": values}

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Tally:
        """Raises KeyError, TypeError or ValueError for what `to_wire` did not make."""
        made = cls()
        if unknown := set(message["counts"]) - set(COUNTS):
            raise ValueError(f"unknown counts: {', '.join(sorted(unknown))}")
        made.counts.update({str(name): int(count) for name, count in message["counts"].items()})
        made.statuses.update({str(pair): int(count) for pair, count in message["statuses"].items()})
        for name, wire in message["values"].items():
            made.values[name] = Distribution.from_wire(wire)
        return made

    def report(self) -> dict[str, Any]:
        """As `GET /hearth/endpoints/NAME/shadow` shows it; what nothing is known of is null."""
        production, shadow = self.values["production_ms"], self.values["shadow_ms"]
        percentiles = {"p50": 0.5, "p95": 0.95}
        latency = {
            "production_ms": {name: _percentile(production, share) for name, share in percentiles.items()},
            "shadow_ms": {name: _percentile(shadow, share) for name, share in percentiles.items()},
        }
        ratio = {name: _ratio(latency["shadow_ms"][name], latency["production_ms"][name]) for name in percentiles}
        similarity, difference = self.values["similarity"], self.values["difference"]
        return {
            **{name: self.counts[name] for name in COUNTS},
            "statuses": dict(self.statuses.most_common()),
            "latency": {**latency, "ratio": ratio},
            "similarity": {"average": similarity.average, "least": similarity.minimum} if similarity.count else None,
            "largest_difference": difference.maximum if difference.count else None,
        }


def _percentile(values: Distribution, share: float) -> float | None:
    found = values.percentile(share)
    return None if math.isnan(found) else round(found, 3)


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else round(one / other, 3)

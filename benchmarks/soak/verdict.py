"""Which failures an outage explains."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.crash.faults import Outage

GRACE_S = 2.0
"""Before an outage's begin and after its end: a request that a kill cut off fails a moment later."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not answered, or not rightly. Times are `time.monotonic()`."""

    dialect: str
    endpoint: str | None
    needs: frozenset[str]
    what: str
    explainable: bool
    """False for a wrong answer, which no outage excuses."""
    began: float
    ended: float

    def explained_by(self, outages: Iterable[Outage]) -> bool:
        return self.explainable and any(
            each.part in self.needs
            and each.endpoint in (None, self.endpoint)
            and each.began - GRACE_S <= self.ended
            and self.began <= each.ended + GRACE_S
            for each in outages
        )


@dataclass(slots=True)
class Tally:
    """Answers and failures of all clients."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """How long right answers took, by dialect."""
    failures: list[Failure] = field(default_factory=list)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, dialect: str, seconds: float) -> None:
        with self._mutex:
            self.seconds.setdefault(dialect, []).append(seconds)

    def failed(self, failure: Failure) -> None:
        with self._mutex:
            self.failures.append(failure)

    def unexplained(self, outages: Iterable[Outage]) -> list[Failure]:
        outages = list(outages)
        with self._mutex:
            return [each for each in self.failures if not each.explained_by(outages)]

    def explained(self, outages: Iterable[Outage]) -> Counter[str]:
        """What they saw, by dialect and text."""
        outages = list(outages)
        with self._mutex:
            found = [each for each in self.failures if each.explained_by(outages)]
        return Counter(f"{each.dialect}: {each.what}" for each in found)

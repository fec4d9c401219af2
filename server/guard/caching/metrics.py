"""What the cache of one variant counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge

from server.dialects.identity import Identity
from server.guard.metrics import LABELS
from server.metrics.periods import Periods

HITS = "ResponseCacheHits"
"""In CloudWatch: 1 for each request that was answered from the cache, 0 for each that could have been."""

_REQUESTS = Counter("hearth_cache_requests", "Requests by what the cache did for them.", (*LABELS, "result"))
_EVICTED = Counter("hearth_cache_evicted", "Answers that went out of the cache.", (*LABELS, "reason"))
_ENTRIES = Gauge("hearth_cache_entries", "Answers in the cache.", LABELS)
_BYTES = Gauge("hearth_cache_bytes", "Bytes that the cache holds.", LABELS)


class CacheMetrics:
    def __init__(self, identity: Identity, periods: Periods) -> None:
        self._names = (identity.endpoint, identity.variant)
        self._periods = periods

    def watch(self, entries: Callable[[], float], size: Callable[[], float]) -> None:
        """Both are asked at each scrape."""
        _ENTRIES.labels(*self._names).set_function(entries)
        _BYTES.labels(*self._names).set_function(size)

    def counted(self, result: str) -> None:
        """`hit`; `joined`: answered with one that was being made; `miss` or `bypass`."""
        _REQUESTS.labels(*self._names, result).inc()
        if result != "bypass":
            self._periods.record(HITS, float(result != "miss"))

    def evicted(self, reason: str) -> None:
        _EVICTED.labels(*self._names, reason).inc()

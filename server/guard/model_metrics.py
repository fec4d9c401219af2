"""What a replica with many models counts of them, under SageMaker's CloudWatch names where there is one."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from server.guard.metrics import LABELS, MICROSECONDS
from server.metrics.periods import Periods

_WAIT = Histogram(
    "ModelLoadingWaitTime", "Microseconds that a request waited for its model to be loaded.", LABELS,
    buckets=MICROSECONDS,
)  # fmt: skip
_LOADING = Histogram("ModelLoadingTime", "Microseconds to load a model.", LABELS, buckets=MICROSECONDS)
_UNLOADING = Histogram("ModelUnloadingTime", "Microseconds to unload a model.", LABELS, buckets=MICROSECONDS)
_DOWNLOADING = Histogram(
    "ModelDownloadingTime", "Microseconds to fetch and unpack a model.", LABELS, buckets=MICROSECONDS
)
_HITS = Counter("ModelCacheHit", "Requests whose model was loaded.", LABELS)
_MISSES = Counter("hearth_model_cache_misses", "Requests whose model was not loaded.", LABELS)
_COUNT = Gauge("LoadedModelCount", "Models loaded in this replica.", LABELS)
_MEMORY = Gauge("hearth_models_memory_bytes", "Memory of the loaded models, as last measured.", LABELS)
_DISK = Gauge("hearth_models_disk_bytes", "Files of models that this replica keeps on disk.", LABELS)


class ModelMetrics:
    """The series of one replica's models: totals for Prometheus, `periods` for CloudWatch. Times are in seconds."""

    def __init__(self, endpoint: str, variant: str, periods: Periods) -> None:
        self._names = (endpoint, variant)
        self._periods = periods
        self._loaded = 0

    def asked(self, *, hit: bool) -> None:
        (_HITS if hit else _MISSES).labels(*self._names).inc()
        self._periods.record("ModelCacheHit", float(hit))

    def waited(self, seconds: float) -> None:
        self._time("ModelLoadingWaitTime", _WAIT, seconds)

    def loaded(self, seconds: float) -> None:
        self._time("ModelLoadingTime", _LOADING, seconds)

    def unloaded(self, seconds: float) -> None:
        self._time("ModelUnloadingTime", _UNLOADING, seconds)

    def downloaded(self, seconds: float) -> None:
        self._time("ModelDownloadingTime", _DOWNLOADING, seconds)

    def count(self, loaded: int) -> None:
        self._loaded = loaded
        _COUNT.labels(*self._names).set(loaded)

    def record_count(self) -> None:
        """For CloudWatch, whose Sum over replicas counts models only where each replica says it once a minute."""
        self._periods.record("LoadedModelCount", float(self._loaded))

    def memory(self, used: int) -> None:
        _MEMORY.labels(*self._names).set(used)

    def disk(self, used: int) -> None:
        _DISK.labels(*self._names).set(used)

    def _time(self, name: str, series: Histogram, seconds: float) -> None:
        series.labels(*self._names).observe(seconds * 1e6)
        self._periods.record(name, seconds * 1e6)

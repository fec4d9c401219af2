"""What a replica counts, under SageMaker's CloudWatch names where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from server.dialects.identity import Identity
from server.metrics.periods import Periods

LABELS = ("EndpointName", "VariantName")

MICROSECONDS = (100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 3e7, 6e7, 6e8)
"""Bucket bounds; CloudWatch's latencies are in microseconds."""

_INVOCATIONS = Counter("Invocations", "Requests that reached a replica.", LABELS)
_ERRORS_4XX = Counter("Invocation4XXErrors", "Requests answered with a 4XX status.", LABELS)
_ERRORS_5XX = Counter("Invocation5XXErrors", "Requests answered with a 5XX status.", LABELS)
_BROKEN = Counter("MidStreamErrors", "Answers that broke after they had started.", LABELS)
_MODEL = Histogram("ModelLatency", "Microseconds in the model, streams included.", LABELS, buckets=MICROSECONDS)
_OVERHEAD = Histogram("OverheadLatency", "Microseconds in the replica's guard.", LABELS, buckets=MICROSECONDS)
_FIRST = Histogram("FirstChunkLatency", "Microseconds to an answer's first byte.", LABELS, buckets=MICROSECONDS)
_IN_FLIGHT = Gauge("hearth_in_flight", "Requests admitted and not finished.", LABELS)
_WARM = Gauge("hearth_warm_start", "1 for a replica that was forked, 0 for one that imported for itself.", LABELS)
_REFUSED = Counter("hearth_refused", "Requests refused before the model.", (*LABELS, "reason"))
_ABANDONED = Counter("hearth_abandoned", "Requests whose client left.", LABELS)
_QUEUED = Gauge("hearth_queued", "Requests that wait for their turn while the engine is full.", LABELS)
_QUEUE_WAIT = Histogram("hearth_queue_wait", "Microseconds that queued requests waited.", LABELS, buckets=MICROSECONDS)
_BYTES_IN = Counter("hearth_request_bytes", "Bytes of request bodies.", LABELS)
_BYTES_OUT = Counter("hearth_response_bytes", "Bytes of answers' bodies.", LABELS)
_CONTAINER = Histogram(
    "ContainerLatency", "Microseconds until a container answered, streams not included.",
    (*LABELS, "ContainerName"), buckets=MICROSECONDS,
)  # fmt: skip
_CONTAINER_ERRORS = Counter(
    "hearth_container_errors", "Requests that a container answered with an error.", (*LABELS, "ContainerName", "status")
)


@dataclass(frozen=True, slots=True)
class Finished:
    """One request, as it ended. Times in seconds; `status` is 0 when nothing was answered."""

    status: int
    model_s: float
    overhead_s: float
    first_byte_s: float | None
    bytes_in: int
    bytes_out: int
    broken: bool
    abandoned: bool


class Metrics:
    """The series of one variant in this process: totals for Prometheus, `periods` for CloudWatch."""

    def __init__(self, endpoint: str, variant: str) -> None:
        self.periods = Periods()
        names = (endpoint, variant)
        self._invocations = _INVOCATIONS.labels(*names)
        self._errors_4xx = _ERRORS_4XX.labels(*names)
        self._errors_5xx = _ERRORS_5XX.labels(*names)
        self._broken = _BROKEN.labels(*names)
        self._model = _MODEL.labels(*names)
        self._overhead = _OVERHEAD.labels(*names)
        self._first = _FIRST.labels(*names)
        self._in_flight = _IN_FLIGHT.labels(*names)
        self._abandoned = _ABANDONED.labels(*names)
        self._bytes_in = _BYTES_IN.labels(*names)
        self._bytes_out = _BYTES_OUT.labels(*names)
        self._queued = _QUEUED.labels(*names)
        self._queue_wait = _QUEUE_WAIT.labels(*names)
        self._names = names

    def started(self, *, warm: bool) -> None:
        """Notes how this process came to be."""
        _WARM.labels(*self._names).set(int(warm))

    @classmethod
    def of(cls, identity: Identity) -> Metrics:
        return cls(identity.endpoint, identity.variant)

    def watch_in_flight(self, read: Callable[[], float]) -> None:
        """`read` is asked at each scrape."""
        self._in_flight.set_function(read)

    def watch_queue(self, read: Callable[[], float]) -> None:
        """`read` is asked at each scrape."""
        self._queued.set_function(read)

    def had_waited(self, seconds: float) -> None:
        """A queued request's turn has come."""
        self._queue_wait.observe(seconds * 1e6)

    def refused(self, reason: str) -> None:
        _REFUSED.labels(*self._names, reason).inc()

    def finished(self, request: Finished) -> None:
        self._invocations.inc()
        if 400 <= request.status < 500:
            self._errors_4xx.inc()
        elif request.status >= 500:
            self._errors_5xx.inc()
        if request.broken:
            self._broken.inc()
        if request.abandoned:
            self._abandoned.inc()
        self._model.observe(request.model_s * 1e6)
        self._overhead.observe(request.overhead_s * 1e6)
        if request.first_byte_s is not None:
            self._first.observe(request.first_byte_s * 1e6)
        self._bytes_in.inc(request.bytes_in)
        self._bytes_out.inc(request.bytes_out)
        self._record(request)

    def _record(self, request: Finished) -> None:
        """CloudWatch has a value for each request, so that an average is a rate of errors."""
        record = self.periods.record
        failed = request.status >= 500
        record("Invocations", 1.0)
        record("Invocation4XXErrors", float(400 <= request.status < 500))
        record("Invocation5XXErrors", float(failed))
        record("InvocationModelErrors", float(failed))
        if request.broken:
            record("MidStreamErrors", 1.0)
        record("ModelLatency", request.model_s * 1e6)
        record("OverheadLatency", request.overhead_s * 1e6)
        if request.first_byte_s is not None:
            record("FirstChunkLatency", request.first_byte_s * 1e6)


class ContainerMetrics:
    """The series of one of a variant's several containers."""

    def __init__(self, endpoint: str, variant: str, container: str) -> None:
        self._names = (endpoint, variant, container)
        self._latency = _CONTAINER.labels(*self._names)

    def answered(self, seconds: float) -> None:
        self._latency.observe(seconds * 1e6)

    def failed(self, seconds: float, status: int) -> None:
        self._latency.observe(seconds * 1e6)
        _CONTAINER_ERRORS.labels(*self._names, f"{status // 100}xx").inc()

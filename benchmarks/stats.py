"""What a run's records say: latencies, rates, errors, goodput.

TTFT: scheduled to first streamed chunk. TPOT: first to last chunk, per token after the first. ITL: between
successive chunks. E2E: scheduled to last byte. All in milliseconds in what is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.worker import Record

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Milliseconds; percentiles interpolate linearly. All zero when `count` is."""

    count: int
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of_seconds(cls, values: Iterable[float]) -> Distribution:
        found = np.fromiter(values, dtype=np.float64) * 1000
        if not found.size:
            return cls(0)
        p50, p95, p99 = np.percentile(found, (50, 95, 99))
        return cls(found.size, float(found.mean()), float(p50), float(p95), float(p99), float(found.max()))


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one answered request, in seconds. Parts a request does not have are None."""

    e2e: float
    ttft: float | None
    tpot: float | None

    @classmethod
    def of(cls, record: Record) -> Latency:
        chunks, tokens = record.outcome.chunks, record.outcome.output_tokens
        e2e = record.ended - record.scheduled
        if not chunks:
            return cls(e2e, None, None)
        tpot = (chunks[-1] - chunks[0]) / (tokens - 1) if tokens > 1 else None
        return cls(e2e, chunks[0] - record.scheduled, tpot)


SLO_FIELDS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Slo:
    """Bounds in milliseconds; a request meets it when it is within all that are set."""

    bounds: dict[str, float]

    @classmethod
    def parse(cls, text: str) -> Slo:
        """``ttft:200,tpot:50``. Raises ValueError naming what is wrong."""
        bounds: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition(":")
            if name not in SLO_FIELDS:
                raise ValueError(f"SLO has no {name!r}; there are {', '.join(SLO_FIELDS)}")
            if name in bounds:
                raise ValueError(f"SLO states {name} twice")
            try:
                bounds[name] = float(value)
            except ValueError:
                raise ValueError(f"SLO {name} needs milliseconds, got {value!r}") from None
            if not 0 < bounds[name] < float("inf"):
                raise ValueError(f"SLO {name} must be above 0 ms, got {value}")
        return cls(bounds)

    def met(self, latency: Latency) -> bool:
        """A one-token answer has no TPOT, and an unary one no TTFT; such parts do not count against it."""
        values = {"ttft": latency.ttft, "tpot": latency.tpot, "e2e": latency.e2e}
        return all((value := values[name]) is None or value * 1000 <= bound
                   for name, bound in self.bounds.items())


@dataclass(frozen=True, slots=True)
class Summary:
    """Rates are per second of the measured window; latencies are of requests scheduled within it."""

    seconds: float
    requests: int
    completed: int
    statuses: dict[str, int]
    requests_per_s: float
    output_tokens_per_s: float
    prompt_tokens_per_s: float
    chunks_per_s: float
    goodput_per_s: float | None
    slo: dict[str, float] | None
    ttft: Distribution
    tpot: Distribution
    itl: Distribution
    e2e: Distribution
    refused: Distribution
    """Time to an answer that was 429 or 503."""
    late: Distribution
    """Scheduled to sent: the generator's own delay, part of the latencies."""


def summarize(records: Sequence[Record], start: float, end: float | None, slo: Slo | None = None) -> Summary:
    """Summary of the window from `start` to `end`, or to the last reply without one (monotonic seconds)."""
    measured = [record for record in records if record.scheduled >= start]
    answered = [record for record in measured if record.outcome.status == "200"]
    stop = end if end is not None else max((record.ended for record in measured), default=start)
    seconds = max(stop - start, 1e-9)
    latencies = [Latency.of(record) for record in answered]
    counted = [record for record in records if record.outcome.status == "200"]
    inside = [record for record in counted if start <= record.ended <= stop]
    chunks, tokens = _streamed(counted, start, stop)
    return Summary(
        seconds=seconds,
        requests=len(measured),
        completed=len(answered),
        statuses=dict(Counter(record.outcome.status for record in measured).most_common()),
        requests_per_s=len(inside) / seconds,
        output_tokens_per_s=tokens / seconds,
        prompt_tokens_per_s=sum(record.outcome.prompt_tokens for record in inside) / seconds,
        chunks_per_s=chunks / seconds,
        goodput_per_s=sum(map(slo.met, latencies)) / seconds if slo else None,
        slo=slo.bounds if slo else None,
        ttft=Distribution.of_seconds(each.ttft for each in latencies if each.ttft is not None),
        tpot=Distribution.of_seconds(each.tpot for each in latencies if each.tpot is not None),
        itl=Distribution.of_seconds(_gaps(answered)),
        e2e=Distribution.of_seconds(each.e2e for each in latencies),
        refused=Distribution.of_seconds(
            record.ended - record.scheduled for record in measured if record.outcome.status in ("429", "503")
        ),
        late=Distribution.of_seconds(record.sent - record.scheduled for record in measured),
    )


def _gaps(records: Sequence[Record]) -> Floats:
    gaps = [np.diff(np.asarray(record.outcome.chunks)) for record in records if record.outcome.chunks]
    return np.concatenate(gaps) if gaps else np.zeros(0)


def _streamed(records: Sequence[Record], start: float, stop: float) -> tuple[int, float]:
    """Chunks stamped within the window, and tokens made in it (a stream's tokens spread over its chunks)."""
    total, tokens = 0, 0.0
    for record in records:
        outcome = record.outcome
        if outcome.chunks:
            stamps = np.asarray(outcome.chunks)
            inside = int(((stamps >= start) & (stamps <= stop)).sum())
            total += inside
            tokens += outcome.output_tokens * inside / len(stamps)
        elif start <= record.ended <= stop:
            tokens += outcome.output_tokens
    return total, tokens

"""The load generator behind `hearth bench`: a plan in, a result with latencies, rates and its own health out.

An open loop (Poisson or a trace) counts latency from the time a request was due, so a server that stalls is
charged for the requests that had to wait (no coordinated omission). A closed loop keeps a number in flight.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.arrivals import Arrival, poisson
from benchmarks.crew import harvest
from benchmarks.stats import Distribution, Slo, Summary, summarize
from benchmarks.target import Target
from benchmarks.worker import Harvest, Record, Share

BUSY = 0.75
"""CPU share of a worker above which it is taken to distort what it measures."""
PILOT_S = 1.5


@dataclass(frozen=True)
class Plan:
    """What to run. Exactly one of `concurrency` (closed), `rate` per second (Poisson) and `trace` is set.

    It ends after `seconds` or, in a closed loop, after `requests`. `processes` None: found out by a pilot.
    """

    target: Target
    prompts: tuple[str, ...]
    max_tokens: int = 64
    concurrency: int | None = None
    rate: float | None = None
    trace: tuple[Arrival, ...] | None = None
    seconds: float | None = None
    requests: int | None = None
    warmup_s: float = 2.0
    processes: int | None = 1
    seed: int = 0
    slo: Slo | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.concurrency, self.rate, self.trace)) != 1:
            raise ValueError("give exactly one of concurrency, rate and trace")
        if self.concurrency is not None and (self.seconds is None) == (self.requests is None):
            raise ValueError("a closed loop needs either seconds or requests")
        if self.rate is not None and self.seconds is None:
            raise ValueError("a rate needs seconds")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {self.concurrency}")

    @property
    def duration(self) -> float | None:
        """Seconds measured; None when a number of requests ends the run."""
        if self.trace is not None and self.seconds is None:
            return self.trace[-1].at
        return self.seconds


@dataclass(frozen=True, slots=True)
class Generator:
    """How the generator itself fared. `cpu_share` is that of its busiest process."""

    processes: int
    cpu_share: float
    lag: Distribution
    reconnects: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    summary: Summary
    generator: Generator
    records: Sequence[Record]


def run(plan: Plan, progress: Callable[[int], None] | None = None) -> Result:
    """Run a plan; `progress` is told the number of finished requests about twice a second."""
    processes = plan.processes or _enough_processes(plan)
    harvests = harvest(shares(plan, processes), progress)
    start = harvests[0].start
    duration = plan.duration
    records = sorted((record for each in harvests for record in each.records), key=lambda one: one.scheduled)
    end = start + duration if duration is not None else None
    summary = summarize(records, start, end, plan.slo)
    return Result(summary, _generator(harvests, summary), records)


def shares(plan: Plan, processes: int) -> list[Share]:
    """The plan divided so that its parts together are the whole."""
    arrivals = _arrivals(plan)
    wanted = plan.concurrency if plan.concurrency is not None else processes
    processes = min(processes, wanted, plan.requests or processes)
    parts = range(processes)
    return [
        Share(
            target=plan.target,
            prompts=plan.prompts,
            max_tokens=plan.max_tokens,
            warmup_s=plan.warmup_s,
            seconds=plan.seconds,
            requests=None if plan.requests is None else len(range(part, plan.requests, processes)),
            concurrency=None if plan.concurrency is None else len(range(part, plan.concurrency, processes)),
            arrivals=None if arrivals is None else tuple(arrivals[part::processes]),
            offset=part,
            stride=processes,
        )
        for part in parts
    ]


def _arrivals(plan: Plan) -> list[Arrival] | None:
    """Of an open loop, with warm-up arrivals at the same mean rate before second 0."""
    if plan.trace is not None:
        due = [each for each in plan.trace if plan.seconds is None or each.at < plan.seconds]
        rate = len(plan.trace) / max(plan.trace[-1].at, 1e-9)
    elif plan.rate is not None and plan.seconds is not None:
        due, rate = poisson(plan.rate, plan.seconds, plan.seed), plan.rate
    else:
        return None
    if not plan.warmup_s:
        return due
    before = poisson(rate, plan.warmup_s, plan.seed + 1)
    return [replace(each, at=each.at - plan.warmup_s) for each in before] + due


def _enough_processes(plan: Plan) -> int:
    """Double the processes until a short pilot leaves none of them busy, up to one per core."""
    processes, cores = 1, os.cpu_count() or 1
    pilot = replace(plan, seconds=PILOT_S, requests=None, warmup_s=0.0)
    while processes < cores:
        if max(each.cpu_share for each in harvest(shares(pilot, processes), None)) < BUSY:
            break
        processes *= 2
    return min(processes, cores)


def _generator(harvests: Sequence[Harvest], summary: Summary) -> Generator:
    lag = Distribution.of_seconds(value for each in harvests for value in each.lags)
    share = max(each.cpu_share for each in harvests)
    warnings = []
    if share >= BUSY:
        warnings.append(
            f"the generator used {share:.0%} of a core and was probably the bottleneck: more --processes"
        )
    if lag.p50 > max(1.0, 0.03 * summary.e2e.p50):
        warnings.append(
            f"the generator's event loop ran {lag.p50:.1f} ms late (median): latencies include that delay"
        )
    if summary.late.p99 > max(5.0, 0.1 * summary.e2e.p50):
        warnings.append(f"1 % of requests left {summary.late.p99:.1f} ms or more after they were due")
    if 0 < summary.completed < 10 or not summary.requests:
        warnings.append(f"only {summary.completed} of the requests due in the window were answered: measure longer")
    return Generator(len(harvests), share, lag, sum(each.reconnects for each in harvests), tuple(warnings))


if __name__ == "__main__":
    from benchmarks.cli import main

    main()

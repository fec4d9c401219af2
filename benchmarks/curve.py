"""A rate sweep: latency against throughput, drawn to a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.load import Plan, Result, run

STEPS = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
"""Rates of an automatic sweep, as parts of the highest rate a closed loop reached."""
SATURATING = 32


@dataclass(frozen=True, slots=True)
class Point:
    rate: float
    """Mean arrivals per second that were asked for."""
    result: Result


def rates_up_to_saturation(plan: Plan) -> list[float]:
    """Rates around the throughput of a closed loop with many requests in flight."""
    closed = replace(plan, rate=None, trace=None, concurrency=SATURATING, requests=None)
    highest = run(closed).summary.requests_per_s
    if not highest:
        raise ValueError("no request was answered, so there is no rate to sweep up to")
    return [highest * step for step in STEPS]


def sweep(plan: Plan, rates: Sequence[float], each: Callable[[Point], None]) -> list[Point]:
    """One open loop per rate, lowest first; `each` is told of every point as it is measured."""
    points = []
    for number, rate in enumerate(sorted(rates)):
        at = replace(plan, rate=rate, concurrency=None, trace=None, requests=None, seed=plan.seed + number)
        points.append(Point(rate, run(at)))
        each(points[-1])
    return points


def draw(points: Sequence[Point], title: str, picture: Path) -> None:
    """Latency percentiles (left) and served against offered rate (right), as a PNG or any of matplotlib's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    latency, served = figure.subplots(1, 2)
    summaries = [point.result.summary for point in points]
    rates = [summary.requests_per_s for summary in summaries]
    streamed = any(summary.ttft.count for summary in summaries)
    for name, style in (("ttft", "--"), ("e2e", "-")) if streamed else (("e2e", "-"),):
        found = [getattr(summary, name) for summary in summaries]
        for percentile, colour in (("p50", "tab:blue"), ("p99", "tab:red")):
            values = [getattr(distribution, percentile) for distribution in found]
            latency.plot(rates, values, style, marker="o", color=colour, label=f"{name.upper()} {percentile}")
    latency.set(xlabel="requests/s served", ylabel="ms", yscale="log", title="latency")
    latency.legend()
    offered = [summary.requests / summary.seconds for summary in summaries]  # as drawn, not as asked
    served.plot(offered, offered, ":", color="grey", label="offered")
    served.plot(offered, rates, marker="o", label="served")
    if summaries[0].goodput_per_s is not None:
        served.plot(offered, [one.goodput_per_s or 0.0 for one in summaries], marker="s", label="goodput")
    served.set(xlabel="requests/s offered", ylabel="requests/s", title="throughput")
    served.legend()
    for axes in (latency, served):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(picture, dpi=120)

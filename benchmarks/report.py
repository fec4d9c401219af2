"""A result as a table for people and as a document for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmarks.load import Plan, Result
from benchmarks.stats import Distribution, Summary


def document(plan: Plan, result: Result) -> dict[str, Any]:
    """The JSON of a run: what was asked, what was measured, how the generator fared. No keys, no prompts."""
    target = plan.target
    return {
        "target": {
            "url": target.url,
            "model": target.model,
            "dialect": target.dialect,
            "stream": target.spoken().streams,
            "signed": target.keys is not None,
        },
        "load": {
            "concurrency": plan.concurrency,
            "rate": plan.rate,
            "trace_arrivals": len(plan.trace) if plan.trace is not None else None,
            "seconds": plan.duration,
            "requests": plan.requests,
            "warmup_s": plan.warmup_s,
            "max_tokens": plan.max_tokens,
            "prompts": len(plan.prompts),
            "seed": plan.seed,
        },
        "measured": asdict(result.summary),
        "generator": asdict(result.generator),
    }


def show(result: Result, console: Console) -> None:
    console.print(Group(_rates(result), _latencies(result.summary)))
    for warning in result.generator.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _rates(result: Result) -> Table:
    summary, generator = result.summary, result.generator
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = [
        ("measured", f"{summary.seconds:.2f} s, {summary.completed} of {summary.requests} requests answered"),
        ("requests/s", f"{summary.requests_per_s:.2f}"),
        ("output tokens/s", f"{summary.output_tokens_per_s:.1f}"),
        ("prompt tokens/s", f"{summary.prompt_tokens_per_s:.1f}"),
    ]
    if summary.chunks_per_s:
        rows.append(("chunks/s", f"{summary.chunks_per_s:.1f}"))
    if summary.goodput_per_s is not None and summary.slo is not None:
        slo = ", ".join(f"{name} <= {bound:g} ms" for name, bound in summary.slo.items())
        rows.append(("goodput/s", f"{summary.goodput_per_s:.2f} ({slo})"))
    failed = {status: count for status, count in summary.statuses.items() if status != "200"}
    rows.append(("failed", ", ".join(f"{status}: {count}" for status, count in failed.items()) or "none"))
    rows.append((
        "generator",
        f"{generator.processes} process(es), busiest {generator.cpu_share:.0%} of a core, "
        f"loop lag p50 {generator.lag.p50:.2f} ms, p99 {generator.lag.p99:.2f} ms",
    ))
    for row in rows:
        table.add_row(*row)
    return table


def _latencies(summary: Summary) -> Table:
    table = Table("ms", *("mean", "p50", "p95", "p99", "max", "samples"), padding=(0, 1))
    for column in table.columns[1:]:
        column.justify = "right"
    named: list[tuple[str, Distribution]] = [
        ("TTFT", summary.ttft),
        ("TPOT", summary.tpot),
        ("ITL", summary.itl),
        ("end to end", summary.e2e),
        ("refused in", summary.refused),
    ]
    for name, found in named:
        if found.count:
            values = (found.mean, found.p50, found.p95, found.p99, found.max)
            table.add_row(name, *(f"{value:.2f}" for value in values), str(found.count))
    return table

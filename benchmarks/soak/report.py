"""What a soak saw, and what of it must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.crash.rounds import Outcome
from benchmarks.soak.census import Count, left_behind, slope
from benchmarks.soak.traffic import DIALECTS
from benchmarks.soak.verdict import Tally


def problems(outcome: Outcome, tally: Tally, counts: Sequence[Count]) -> Iterable[str]:
    """What must not be."""
    yield from dict.fromkeys(outcome.violations)
    for each in tally.unexplained(outcome.done.outages):
        yield f"{each.dialect}: {each.what}, {'with no outage to explain it' if each.explainable else 'wrong'}"
    yield from left_behind(counts[0], counts[-1])


def table(outcome: Outcome, tally: Tally, counts: Sequence[Count]) -> list[str]:
    """Markdown."""
    explained = tally.explained(outcome.done.outages)
    return [*_totals(outcome, tally, explained), "", *_dialects(tally, explained), "", *_processes(counts)]


def _totals(outcome: Outcome, tally: Tally, explained: Counter[str]) -> list[str]:
    done, calls = outcome.done, outcome.counts
    rows = {
        "killed with -9": ", ".join(f"{name} {times}" for name, times in sorted(done.kills.items())),
        "users' calls acknowledged": f"{calls.acknowledged} ({calls.retried} after a lost attempt), "
        f"of {outcome.sequences} users",
        "acknowledged and lost": len(dict.fromkeys(outcome.violations)),
        "longest heal": f"{outcome.heal_s:.1f} s",
        "failures that an outage explains": explained.total(),
        "failures that none explains, wrong answers": len(tally.unexplained(done.outages)),
    }
    return ["| what | how many |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]


def _dialects(tally: Tally, explained: Counter[str]) -> list[str]:
    lines = ["| dialect | answers | p50 | p99 | failures explained |", "| --- | --- | --- | --- | --- |"]
    for dialect in DIALECTS:
        taken = tally.seconds.get(dialect.name, [])
        p50, p99 = np.percentile(taken, (50, 99)) * 1000 if taken else (0.0, 0.0)
        failed = sum(times for text, times in explained.items() if text.startswith(f"{dialect.name}: "))
        lines.append(f"| {dialect.name} | {len(taken)} | {p50:.0f} ms | {p99:.0f} ms | {failed} |")
    return lines


def _processes(counts: Sequence[Count]) -> list[str]:
    lines = ["| process | number | open files | MiB | MiB/h |", "| --- | --- | --- | --- | --- |"]
    first, last = counts[0].groups, counts[-1].groups
    for kind in sorted(first.keys() | last.keys()):
        if kind in first and kind in last:
            a, b, rise = first[kind], last[kind], slope(counts, kind)
            shown = "" if rise is None else f"{rise:+.0f}"
            grown = f"{a.processes} → {b.processes} | {a.files} → {b.files} | {a.mib:.0f} → {b.mib:.0f}"
            lines.append(f"| {kind} | {grown} | {shown} |")
    return lines

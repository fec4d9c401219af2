"""What an answer from the cache costs beside a request of one token: `python -m benchmarks.cache`.

A Hearth with the shipped language model and its cache on. One client asks for one token, greedily: prompts that nobody
asked before, and one that was, in turns. Figures of a whole request, from the client through the edge, and of the
replica alone, as its own log has it (from the request's head to the last byte of its answer).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.arms import HearthArm, Setup
from benchmarks.load import Plan, run
from benchmarks.processes import exit_on_sigterm
from benchmarks.prompts import Shape, synthetic
from benchmarks.ratios import paired
from benchmarks.results import PAGE, circumstances, replace_section
from benchmarks.serving import CPU_ENV, DEFAULT_MODEL, ENGINE
from benchmarks.target import Target

PROMPT_TOKENS = 64
KINDS = ("miss", "hit")


class CachingArm(HearthArm):
    label = "hearth"

    def document(self) -> dict[str, object]:
        document = super().document()
        endpoints = document["endpoints"]
        assert isinstance(endpoints, dict)
        endpoints[self.setup.name]["variants"][0]["cache"] = {}
        return document

    def served_ms(self, since: int) -> list[float]:
        """Of requests that the replica logged as answered, from its log's byte `since` on."""
        lines = self.log().read_bytes()[since:].decode().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{") and '"request"' in line]
        return [float(each["ms"]) for each in entries if each.get("status") == 200]

    def log(self) -> Path:
        folder = self.setup.scratch / self.label / "logs"
        return next(path for path in sorted(folder.rglob("*.log")) if b'"ms"' in path.read_bytes())


def round_(arm: CachingArm, number: int, seconds: float) -> dict[str, dict[str, float]]:
    """p50 in milliseconds of a whole request and of the replica's part, by kind."""
    found = {}
    for place, kind in enumerate(KINDS):
        count = 1 if kind == "hit" else 4096
        seed = 10 * number + place
        prompts = synthetic(Shape(tokens=PROMPT_TOKENS, count=count), seed, tokenizer=arm.setup.model)
        since = arm.log().stat().st_size
        plan = Plan(Target(arm.url, arm.setup.name, stream=False), tuple(prompts), 1, concurrency=1, seconds=seconds,
                    warmup_s=1.0)  # fmt: skip
        summary = run(plan).summary
        if summary.completed != summary.requests:
            raise RuntimeError(f"{summary.requests - summary.completed} requests were not answered")
        served = arm.served_ms(since)
        found[kind] = {"whole": summary.e2e.p50, "replica": float(np.median(served))}
        print(f"round {number + 1} {kind:5} {found[kind]} of {summary.requests}", flush=True)
    return found


def section(found: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    lines = ["| p50, ms | one token | from the cache | ratio |", "| --- | ---: | ---: | ---: |"]
    for part, words in (("whole", "whole request"), ("replica", "in the replica")):
        miss, hit = ([each[kind][part] for each in found] for kind in KINDS)
        ratio = paired(hit, miss)
        lines.append(f"| {words} | {np.median(miss):.2f} | {np.median(hit):.3f} | {ratio} = 1/{1 / ratio.median:.0f} |")
    return lines


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 4.0,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Measure hits beside requests of one token."""
    exit_on_sigterm()
    head = circumstances()
    arm = CachingArm(Setup(DEFAULT_MODEL, ENGINE, CPU_ENV, Path(tempfile.mkdtemp(prefix="hearth-cache-"))))
    try:
        arm.start()
        arm.wait()
        found = [round_(arm, number, seconds) for number in range(rounds)]
    finally:
        arm.stop()
    text = "\n".join([*head, f"- {PROMPT_TOKENS} prompt tokens, one request at a time", "", *section(found)])
    print(text)
    if write:
        replace_section(PAGE, "Response cache: a hit beside one token", text)


if __name__ == "__main__":
    typer.run(main)

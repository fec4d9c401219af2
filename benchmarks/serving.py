"""Hearth, bare vLLM and Ray Serve LLM side by side: same model, same engine flags, measured in turn.

    python -m benchmarks.serving [--rounds 7] [--seconds 4.5] [--arms hearth,vllm,ray] [--model FOLDER]

All servers stay up; only the one under load runs, the others' processes are stopped (SIGSTOP) meanwhile, so
that what an idle server burns burdens nobody. Rounds go forwards and backwards through the arms.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import peer
from benchmarks.arms import ARMS, REPOSITORY, Arm, Flags, Setup
from benchmarks.comparison import Table, equal_answers, section
from benchmarks.load import Plan, run
from benchmarks.processes import exit_on_sigterm
from benchmarks.prompts import Shape, synthetic
from benchmarks.ratios import order
from benchmarks.results import PAGE, replace_section
from benchmarks.target import Target

DEFAULT_MODEL = REPOSITORY / "models" / "weights" / "hearth-python-lm"
ENGINE: Flags = {"max-model-len": 1024, "enforce-eager": True, "dtype": "float32"}
CPU_ENV = {"VLLM_CPU_KVCACHE_SPACE": "1"}
WARMUP_S = 0.8
SETTLE_S = 1.0
"""For what expired in a server while it was stopped: leases, health checks."""


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop: so many in flight, each answered with so many tokens, streamed or not."""

    in_flight: int
    tokens: int
    stream: bool
    longer: float = 1.0
    """Times the usual seconds: a window must be longer than one answer takes."""

    def __str__(self) -> str:
        return f"{self.tokens}-token {'stream' if self.stream else 'unary'}, {self.in_flight} in flight"


LOADS = (
    Load(1, 1, False, 0.8),
    Load(8, 1, False, 0.8),
    Load(32, 1, False, 0.8),
    Load(1, 64, True),
    Load(16, 64, True),
    Load(48, 64, True, 1.6),
)


def target(arm: Arm, *, stream: bool) -> Target:
    return Target(arm.url, arm.setup.name, stream=stream, timeout_s=120, api_key=arm.api_key)


def measure(arm: Arm, load: Load, seconds: float, prompts: Sequence[str]) -> dict[str, float]:
    """Figures of one arm under one load; `failed` counts requests that were not answered 200."""
    plan = Plan(
        target(arm, stream=load.stream),
        tuple(prompts),
        load.tokens,
        concurrency=load.in_flight,
        seconds=seconds * load.longer,
        warmup_s=WARMUP_S,
    )
    result = run(plan)
    summary = result.summary
    figures = {
        "E2E p50 ms": summary.e2e.p50,
        "failed": float(summary.requests - summary.completed),
        "client CPU": result.generator.cpu_share,
    }
    if not load.stream:
        return {"requests/s": summary.requests_per_s, **figures}
    streamed = {
        "chunks/s": summary.chunks_per_s,
        "tokens/s": summary.output_tokens_per_s,
        "TTFT p50 ms": summary.ttft.p50,
    }
    return streamed | figures


def rounds(arms: Mapping[str, Arm], loads: Sequence[Load], count: int, seconds: float) -> Table:
    """Figures by load, arm and round. Every arm gets the same prompts, none of them seen before."""
    table: Table = {str(load): {label: [] for label in arms} for load in loads}
    tokenizer = next(iter(arms.values())).setup.model
    turns = order(list(arms), count + len(loads))
    running: Arm | None = None
    for number in range(count):
        for place, load in enumerate(loads):
            shape = Shape(tokens=64, count=2048)
            prompts = synthetic(shape, seed=1000 * (number + 1) + place, tokenizer=tokenizer)
            for label in turns[number + place]:
                running = switch(running, arms[label])
                figures = measure(running, load, seconds, prompts)
                table[str(load)][label].append(figures)
                shown = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
                print(f"round {number + 1}/{count}  {load!s:30}  {label:7} {shown}", flush=True)
    return table


def switch(running: Arm | None, wanted: Arm) -> Arm:
    """Stop one arm's processes and let another's go on; returns when that one answers again."""
    if running is not wanted:
        if running is not None:
            running.server.signal(signal.SIGSTOP)
        wanted.server.signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        wanted.wait()
    return wanted


def idle_cpu(arm: Arm, seconds: float = 3.0) -> float:
    """Cores that the arm's processes use while nothing is asked of it."""
    before = arm.server.cpu_seconds()
    time.sleep(seconds)
    return (arm.server.cpu_seconds() - before) / seconds


def start(arms: Mapping[str, Arm]) -> dict[str, float]:
    """Start all, one after the other; returns each one's idle CPU in cores. Leaves them stopped (SIGSTOP)."""
    idle = {}
    for label, arm in arms.items():
        arm.start()
        print(f"{label}: ready after {arm.wait():.0f} s", flush=True)
        time.sleep(5)
        idle[label] = idle_cpu(arm)
        arm.server.signal(signal.SIGSTOP)
    return idle


def build(labels: Sequence[str], setup: Setup, gpu: bool) -> dict[str, Arm]:
    """The arms of those names. Raises ValueError listing the known ones."""
    if unknown := [label for label in labels if label not in ARMS]:
        raise ValueError(f"no arm {', '.join(unknown)}; there are {', '.join(ARMS)}")
    own = Path(sys.executable)
    pythons = {label: peer.ensure(gpu=gpu) if label == "ray" else own for label in labels}
    return {label: ARMS[label](setup, pythons[label]) for label in labels}


def main(
    rounds_: Annotated[int, typer.Option("--rounds", min=1)] = 7,
    seconds: Annotated[float, typer.Option(min=0.5, help="Measured per arm, load and round.")] = 4.5,
    arms: Annotated[str, typer.Option(help="Of hearth, vllm, ray.")] = "hearth,vllm,ray",
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = DEFAULT_MODEL,
    engine: Annotated[str, typer.Option(help="vLLM flags as JSON, by long option name.")] = json.dumps(ENGINE),
    gpu: Annotated[bool, typer.Option(help="The engines run on a GPU.")] = False,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
    output: Annotated[Path | None, typer.Option(help="All figures as JSON.")] = None,
) -> None:
    """Start the arms, check that they answer alike, measure in turn, print paired ratios."""
    exit_on_sigterm()
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="hearth-serving-"))
    print(f"logs in {scratch}", flush=True)
    setup = Setup(model.resolve(), json.loads(engine), {} if gpu else CPU_ENV, scratch)
    built = build(arms.split(","), setup, gpu)
    try:
        idle = start(built)
        answers = equal_answers(built, lambda arm: target(arm, stream=False))
        print(answers, flush=True)
        table = rounds(built, LOADS, rounds_, seconds)
    finally:
        for arm in built.values():
            if arm.started:
                arm.server.signal(signal.SIGCONT)
                arm.stop()
    text = section(table, built, idle, answers, time.monotonic() - began)
    print(text)
    if write:
        replace_section(PAGE, "Serving: Hearth, bare vLLM, Ray Serve LLM", text)
    if output is not None:
        output.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

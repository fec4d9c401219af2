"""Replicas of an endpoint as its load steps up and down, under a target tracking policy.

    python -m benchmarks.autoscaling [--clients 8] [--seconds 30,90,110] [--picture docs/img/autoscaling.png]

Starts Hearth with a model that answers one request at a time, each in a tenth of a second, registers it with
Application Auto Scaling and draws clients, replicas and latency over time. What limits it is how many requests a
replica takes, not the processor, so that replicas help on any machine.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import boto3
import httpx
import numpy as np
import typer

from benchmarks.arms import REPOSITORY
from benchmarks.processes import Server, exit_on_sigterm, free_port

NAME = "elastic"
CODE = """import time


def model_fn(folder):
    return None


def transform_fn(model, body, content_type, accept):
    time.sleep(0.1)
    return body, "application/json"
"""
VARIANT: dict[str, Any] = {
    "ServiceNamespace": "sagemaker", "ResourceId": f"endpoint/{NAME}/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}  # fmt: skip
START_S = 300.0
WINDOW_S = 5.0
"""Length of the stretches whose p99 is drawn."""


@dataclass(slots=True)
class Seen:
    """Times are seconds since the load began."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each answer came, and how long it took."""
    statuses: Counter[str] = field(default_factory=Counter)
    replicas: list[tuple[float, int]] = field(default_factory=list)
    clients: list[tuple[float, int]] = field(default_factory=list)


async def load(url: str, phases: Sequence[tuple[int, float]]) -> Seen:
    """`phases`: numbers of clients that ask one request after another, and for how long."""
    seen, began = Seen(), time.monotonic()
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        watching = asyncio.create_task(_watch(client, seen, began))
        for clients, seconds in phases:
            seen.clients.append((time.monotonic() - began, clients))
            until = time.monotonic() + seconds
            async with asyncio.TaskGroup() as tasks:
                for _ in range(clients):
                    tasks.create_task(_ask(client, seen, began, until))
        seen.clients.append((time.monotonic() - began, phases[-1][0]))
        watching.cancel()
    return seen


async def _ask(client: httpx.AsyncClient, seen: Seen, began: float, until: float) -> None:
    while (sent := time.monotonic()) < until:
        try:
            reply = await client.post(f"/endpoints/{NAME}/invocations", json=[1])
            seen.statuses[str(reply.status_code)] += 1
        except httpx.HTTPError as error:
            seen.statuses[type(error).__name__] += 1
            continue
        now = time.monotonic()
        seen.answers.append((now - began, now - sent))


async def _watch(client: httpx.AsyncClient, seen: Seen, began: float) -> None:
    while True:
        found = (await client.get("/hearth/state")).json()["replicas"]
        ready = sum(each["endpoint"] == NAME and each["phase"] == "ready" for each in found)
        seen.replicas.append((time.monotonic() - began, ready))
        await asyncio.sleep(0.5)


def percentiles(answers: Sequence[tuple[float, float]], share: float) -> tuple[list[float], list[float]]:
    """The middle of each stretch and that percentile of its latencies, in milliseconds."""
    moments, values = [], []
    for number in range(int(max(at for at, _ in answers) / WINDOW_S) + 1):
        found = [took for at, took in answers if number * WINDOW_S <= at < (number + 1) * WINDOW_S]
        if found:
            moments.append((number + 0.5) * WINDOW_S)
            values.append(float(np.percentile(found, share)) * 1000)
    return moments, values


def draw(seen: Seen, target: float, picture: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 1.4))
    top.step(*zip(*seen.clients, strict=True), where="post", color="tab:grey")
    top.set(ylabel="clients", title=f"A load step: {target:g} requests in flight per replica as the target")
    middle.step(*zip(*seen.replicas, strict=True), where="post", color="tab:green")
    middle.set(ylabel="ready replicas")
    middle.yaxis.set_major_locator(MaxNLocator(integer=True))
    for share, colour in ((50.0, "tab:blue"), (99.0, "tab:red")):
        bottom.plot(*percentiles(seen.answers, share), color=colour, marker=".", label=f"p{share:.0f}")
    bottom.set(ylabel=f"latency in ms, each {WINDOW_S:g} s", xlabel="seconds", yscale="log")
    bottom.legend()
    for axes in (top, middle, bottom):
        axes.set_ylim(bottom=None if axes is bottom else 0)
        axes.grid(alpha=0.3)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)


def started(scratch: Path, port: int) -> Server:
    """A Hearth with the endpoint in service."""
    model = scratch / "model" / "code"
    model.mkdir(parents=True)
    (model / "inference.py").write_text(CODE)
    config = scratch / "hearth.yaml"
    variant = {"model": str(model.parent), "resources": {"num_cpus": 0.1}}
    config.write_text(json.dumps({"endpoints": {NAME: variant}}))
    command = [sys.executable, "-m", "server", "up", "--port", str(port), "--state", str(scratch / "state"),
               "--config", str(config)]  # fmt: skip
    server = Server(command, scratch / "hearth.log", {"PYTHONPATH": str(REPOSITORY)}, REPOSITORY)
    try:
        _wait(server, port)
    except BaseException:
        server.stop(60.0)
        raise
    return server


def _wait(server: Server, port: int) -> None:
    until = time.monotonic() + START_S
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0, trust_env=False) as client:
        while time.monotonic() < until:
            server.check()
            try:
                if client.post(f"/endpoints/{NAME}/invocations", json=[1]).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
    raise TimeoutError(f"Hearth was not ready after {START_S:g} s; see {server.log}")


def client(url: str) -> Any:
    return boto3.client(
        "application-autoscaling", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any",
        aws_secret_access_key="any",
    )  # fmt: skip


def scale(scaling: Any, most: int, target: float, cooldown: int) -> None:
    """Registers the endpoint and has it follow its requests in flight."""
    scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=most)
    metric = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
    scaling.put_scaling_policy(
        **VARIANT, PolicyName="in-flight", PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": target, "PredefinedMetricSpecification": metric, "ScaleOutCooldown": 30,
            "ScaleInCooldown": cooldown,
        },
    )  # fmt: skip


def main(
    clients: Annotated[int, typer.Option(min=2, help="Clients at the height of the load.")] = 8,
    seconds: Annotated[str, typer.Option(help="Of one client, of all of them, of one again.")] = "30,90,110",
    most: Annotated[int, typer.Option(min=2, help="MaxCapacity.")] = 4,
    target: Annotated[float, typer.Option(min=0.1, help="Requests in flight per replica.")] = 2.0,
    cooldown: Annotated[int, typer.Option(min=0, help="ScaleInCooldown in seconds.")] = 60,
    picture: Annotated[Path, typer.Option(help="Where the curves are drawn.")] = Path("docs/img/autoscaling.png"),
) -> None:
    """Drive a load step and draw what became of it."""
    exit_on_sigterm()
    before, during, after = (float(part) for part in seconds.split(","))
    scratch, port = Path(tempfile.mkdtemp(prefix="hearth-autoscaling-")), free_port()
    print(f"logs in {scratch}", flush=True)
    server = started(scratch, port)
    url = f"http://127.0.0.1:{port}"
    try:
        scaling = client(url)
        scale(scaling, most, target, cooldown)
        seen = asyncio.run(load(url, ((1, before), (clients, during), (1, after))))
        activities = scaling.describe_scaling_activities(ServiceNamespace="sagemaker")["ScalingActivities"]
    finally:
        server.stop(60.0)
    draw(seen, target, picture)
    print(f"{sum(seen.statuses.values())} requests: {dict(seen.statuses)}")
    for each in reversed(activities):
        print(f"{each['StartTime']:%H:%M:%S} {each['Description']} {each.get('Details', each['Cause'])} "
              f"({each['StatusCode']})")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)

"""Serverless endpoints by boto3, asleep and awake, and where replicas come from."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from benchmarks.crash.site import Site
from tests.running.conftest import VISION, Hearth, fresh

NAME = "held-serverless"
CODE = """import time
from pathlib import Path


def model_fn(folder):
    return Path(folder)


def transform_fn(model, body, content_type, accept):
    while not (model / "open").exists():
        time.sleep(0.01)
    return body, "application/json"
"""
"""Holds every request until there is a file `open` beside it."""


@pytest.fixture
def serverless(hearth: Hearth, tmp_path: Path) -> Iterator[Path]:
    """An endpoint of two concurrent requests, whose model's folder is given."""
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(CODE)
    document = {
        "variants": [
            {
                "name": "v", "model": str(folder), "resources": {"num_cpus": 0.1}, "limits": {"max_in_flight": 2},
                "scaling": {"min_replicas": 0, "max_replicas": 2, "target_in_flight": 1, "upscale_delay_s": 0,
                            "downscale_delay_s": 1, "idle_before_zero_s": 2},
            }
        ],
        "sagemaker": {"Variants": {"v": {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 2}}}},
    }  # fmt: skip
    hearth.http.put(f"/hearth/endpoints/{NAME}", json=document).raise_for_status()
    hearth.wait("in service", lambda: hearth.endpoints()[NAME]["status"] == "InService", 180)
    yield folder
    (folder / "open").touch()
    hearth.http.delete(f"/hearth/endpoints/{NAME}")
    hearth.wait("gone", lambda: NAME not in hearth.endpoints(), 60)


class Callers:
    """boto3 calls on threads."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._pool = ThreadPoolExecutor(8)

    def call(self) -> Future[str]:
        return self._pool.submit(self._call)

    def _call(self) -> str:
        try:
            answer = self._runtime.invoke_endpoint(EndpointName=NAME, ContentType="application/json", Body=b"[1]")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return str(json.loads(answer["Body"].read()))


def in_flight(hearth: Hearth) -> int:
    return sum(each["in_flight"] for each in hearth.replicas(NAME))


def waiting(hearth: Hearth) -> int:
    return int(hearth.http.get("/hearth/state").json()["waiting"].get(NAME, 0))


def test_max_concurrency_is_exact_asleep_and_awake(hearth: Hearth, serverless: Path) -> None:
    callers = Callers(fresh(hearth))
    hearth.wait("it sleeps", lambda: not hearth.replicas(NAME) and not hearth.replicas(NAME, "draining"), 60)
    cold = [callers.call() for _ in range(2)]
    hearth.wait("both are held", lambda: waiting(hearth) + in_flight(hearth) == 2, 60)
    assert [callers.call().result(30) for _ in range(3)] == ["ThrottlingException"] * 3
    hearth.wait("it wakes with both", lambda: in_flight(hearth) == 2, 120)
    assert callers.call().result(30) == "ThrottlingException"
    (serverless / "open").touch()
    assert [each.result(60) for each in cold] == ["[1]"] * 2
    assert callers.call().result(60) == "[1]"


def test_a_lost_mother_costs_nothing_and_is_replaced(hearth: Hearth) -> None:
    assert hearth.process is not None
    site = Site(hearth.url, hearth.state_dir, hearth.process.pid)
    mother = site.child("server.prefork.mother")
    before = {each["replica_id"] for each in hearth.replicas(VISION)}
    os.kill(mother.pid, signal.SIGKILL)
    hearth.wait("another is there", lambda: site.child("server.prefork.mother").pid != mother.pid, 60)
    assert {each["replica_id"] for each in hearth.replicas(VISION)} == before
    victim = hearth.replicas(VISION)[0]
    os.kill(victim["pid"], signal.SIGKILL)
    hearth.wait("its place is taken", lambda: _others(hearth, before), 180)
    (new,) = _others(hearth, before)
    assert psutil.Process(new["pid"]).parent() == site.child("server.prefork.mother")
    log = (hearth.state_dir / "logs" / "endpoints" / VISION).glob(f"*-{new['replica_id']}.log")
    assert '"start": "warm"' in next(log).read_text()


def _others(hearth: Hearth, before: set[str]) -> list[dict[str, Any]]:
    return [each for each in hearth.replicas(VISION) if each["replica_id"] not in before]

"""`kill -9` of every part while clients ask. Runs last: its final tests take everything down and up again."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from openai import InternalServerError, OpenAI

from benchmarks.crash.site import Site
from tests.running.conftest import EMBEDDING, LLM, PAIR, START_TIMEOUT_S, VISION, VLM, Hearth
from tests.running.test_scaling import Load


def site(hearth: Hearth) -> Site:
    assert hearth.process is not None
    return Site(hearth.url, hearth.state_dir, hearth.process.pid)


def ours(hearth: Hearth, name: str) -> psutil.Process:
    """One of the supervisor's children, by a part of its command line."""
    return site(hearth).child(name)


def of_ray(hearth: Hearth, name: str) -> psutil.Process:
    return site(hearth).of_ray(name)


def under_load(hearth: Hearth, load: Load, seconds: float) -> None:
    """Lets the load run on; it must make progress."""
    before = sum(load.statuses.values())
    time.sleep(seconds)
    hearth.wait("the load goes on", lambda: sum(load.statuses.values()) > before)


def test_a_killed_replica_costs_at_most_what_it_was_answering(hearth: Hearth) -> None:
    clients = 4
    with Load(hearth, PAIR, clients) as load_:
        under_load(hearth, load_, 1)
        victim = hearth.replicas(PAIR)[0]
        os.kill(victim["pid"], signal.SIGKILL)
        under_load(hearth, load_, 3)
        failed = {status: count for status, count in load_.statuses.items() if status != 200}
        assert sum(failed.values()) <= clients, failed
        assert set(failed) <= {502, 503}, failed
        hearth.wait(
            "another takes its place",
            lambda: len({r["replica_id"] for r in hearth.replicas(PAIR)} - {victim["replica_id"]}) == 2,
        )
        later = dict(load_.statuses)
        under_load(hearth, load_, 1)
    assert {s: c for s, c in load_.statuses.items() if s != 200} == {s: c for s, c in later.items() if s != 200}


def test_a_killed_engine_process_leaves_nothing_behind(hearth: Hearth) -> None:
    """The engine's own children end with their replica, and another replica takes over."""
    victim = hearth.replicas(LLM)[0]
    children = psutil.Process(victim["pid"]).children(recursive=True)
    assert children
    os.kill(victim["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive
    hearth.wait(
        "another takes its place",
        lambda: victim["replica_id"] not in [r["replica_id"] for r in hearth.replicas(LLM)] and hearth.replicas(LLM),
        START_TIMEOUT_S,
    )


def test_who_a_dead_engine_was_answering_is_told_to_try_again(hearth: Hearth, openai: OpenAI, runtime: Any) -> None:
    victim = hearth.replicas(LLM)[0]
    body = json.dumps({"inputs": "def f(", "parameters": {"max_new_tokens": 1500, "details": True}})

    def complete() -> Any:
        return openai.with_options(max_retries=0).completions.create(
            model=LLM, prompt="def f(", max_tokens=1500, extra_body={"ignore_eos": True}
        )

    def invoke() -> Any:
        return runtime.invoke_endpoint(EndpointName=LLM, ContentType="application/json", Body=body)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(complete), pool.submit(invoke)]
        hearth.wait("both are answered", lambda: hearth.replicas(LLM)[0]["in_flight"] == 2)
        site(hearth).engine(victim["pid"]).kill()
        completing, invoking = (each.exception(60) for each in asking)
    assert isinstance(completing, InternalServerError)
    assert completing.status_code == 503
    assert "Try again" in completing.message
    assert isinstance(invoking, ClientError)
    assert invoking.response["Error"]["Code"] in ("ServiceUnavailable", "ServiceUnavailableException")
    hearth.wait(
        "another takes its place",
        lambda: victim["replica_id"] not in [r["replica_id"] for r in hearth.replicas(LLM)] and hearth.replicas(LLM),
        START_TIMEOUT_S,
    )


@pytest.mark.parametrize("part", ["server.door", "server.controller"])
def test_a_killed_door_or_controller_fails_no_warm_request(hearth: Hearth, part: str) -> None:
    with Load(hearth, PAIR) as load_:
        under_load(hearth, load_, 1)
        victim = ours(hearth, part)
        victim.kill()
        hearth.wait(f"{part} is back", lambda: ours(hearth, part).pid != victim.pid)
        hearth.wait("its work is done again", lambda: len(hearth.replicas(PAIR)) == 2)
        under_load(hearth, load_, 6)
    assert set(load_.statuses) == {200}, load_.statuses


def every_replica(hearth: Hearth) -> dict[str, set[str]]:
    """Ids of the ready replicas of each endpoint that never sleeps."""
    return {name: {r["replica_id"] for r in hearth.replicas(name)} for name in (LLM, EMBEDDING, VISION, VLM, PAIR)}


@pytest.mark.parametrize("part", ["gcs_server", "ServeController"])
def test_ray_s_own_processes_fail_no_warm_request(hearth: Hearth, part: str) -> None:
    hearth.wait("all replicas are there", lambda: all(every_replica(hearth).values()), START_TIMEOUT_S)
    before = every_replica(hearth)
    with Load(hearth, PAIR) as load_:
        under_load(hearth, load_, 1)
        victim = of_ray(hearth, part)
        victim.kill()
        hearth.wait(f"{part} is back", lambda: of_ray(hearth, part).pid != victim.pid)
        under_load(hearth, load_, 6)
        assert set(load_.statuses) == {200}, load_.statuses
    hearth.wait("replicas are known", lambda: every_replica(hearth) == before)
    time.sleep(3)  # a restarted Serve controller stops what it cannot recover within its first health checks
    assert every_replica(hearth) == before


def test_a_killed_edge_comes_back(hearth: Hearth) -> None:
    with Load(hearth, PAIR) as load_:
        under_load(hearth, load_, 1)
        ours(hearth, "haproxy").kill()
        hearth.wait("the edge answers", lambda: hearth.http.get("/ping").status_code == 200)
        under_load(hearth, load_, 3)
        failed = {status: count for status, count in load_.statuses.items() if status != 200}
        under_load(hearth, load_, 2)
    assert {s: c for s, c in load_.statuses.items() if s != 200} == failed


@pytest.fixture(scope="module")
def lighter(hearth: Hearth) -> None:
    """One engine is enough for the last tests, after which everything starts again, on all cores."""
    declared = json.loads(hearth.config.read_text())
    del declared["endpoints"][VLM]
    hearth.config.write_text(json.dumps(declared))
    hearth.http.delete(f"/hearth/endpoints/{VLM}").raise_for_status()
    hearth.wait("it is gone", lambda: VLM not in hearth.endpoints())


@pytest.mark.usefixtures("lighter")
def test_a_killed_raylet_brings_everything_back(hearth: Hearth) -> None:
    hearth.wait("the model is ready", lambda: hearth.replicas(LLM), START_TIMEOUT_S)
    engine = psutil.Process(hearth.replicas(LLM)[0]["pid"]).children(recursive=True)
    assert engine
    raylet = of_ray(hearth, "raylet/raylet")
    agents = raylet.children()
    raylet.kill()
    _, alive = psutil.wait_procs([*engine, *agents], timeout=120)
    assert not alive
    hearth.wait("replicas are gone", lambda: not hearth.replicas(PAIR))
    hearth.wait("replicas are back", lambda: len(hearth.replicas(PAIR)) == 2, START_TIMEOUT_S)


@pytest.mark.usefixtures("lighter")
def test_everything_killed_comes_back_with_up(hearth: Hearth) -> None:
    assert hearth.process is not None
    before = set(hearth.endpoints())
    family = [psutil.Process(hearth.process.pid), *psutil.Process(hearth.process.pid).children(recursive=True)]
    for process in family:
        process.kill()
    hearth.process.wait(60)
    hearth.start()
    hearth.wait("the endpoints are known", lambda: set(hearth.endpoints()) == before, START_TIMEOUT_S)
    hearth.wait("they serve", lambda: len(hearth.replicas(PAIR)) == 2 and hearth.replicas(LLM), START_TIMEOUT_S)
    body = {"inputs": "def f", "parameters": {"max_new_tokens": 2}}
    hearth.wait(
        "they answer",
        lambda: hearth.http.post(f"/endpoints/{LLM}/invocations", json=body).status_code == 200,
    )

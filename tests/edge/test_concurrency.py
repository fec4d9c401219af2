"""A bound on what an endpoint has in flight, on all its replicas together, real HAProxy in front."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from server.edge.routes import RouteTable
from tests.edge.conftest import Answerer, Edge, eventually, variant

PATH = "/endpoints/bounded/invocations"
HELD = f"{PATH}?sleep=30"


class Crowd:
    """Requests that stay in flight until they are left."""

    def __init__(self, edge: Edge) -> None:
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.config.port}", timeout=60, trust_env=False)
        self._tasks: list[asyncio.Task[httpx.Response]] = []

    async def add(self, count: int, *where: Answerer) -> None:
        """Returns once all of them are at `where`."""
        before = sum(each.started[PATH] for each in where)
        self._tasks += [asyncio.create_task(self._client.post(HELD, json={})) for _ in range(count)]
        while sum(each.started[PATH] for each in where) < before + count:  # noqa: ASYNC110 - counted on threads
            await asyncio.sleep(0.01)

    async def ask(self) -> httpx.Response:
        return await self._client.post(PATH, json={})

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()


async def test_one_more_than_the_bound_is_refused_on_two_replicas(edge: Edge) -> None:
    first, second = edge.replica("1"), edge.replica("2")
    edge.apply(variant("bounded", first, second), bounded=3)
    crowd = Crowd(edge)
    await crowd.add(3, first, second)
    refused = await crowd.ask()
    assert (refused.status_code, refused.headers["x-amzn-errortype"]) == (429, "ThrottlingException")
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    await crowd.leave()
    eventually(lambda: bool(edge.http.post(PATH, {})) and edge.http.status == 200)


async def test_what_waits_for_a_sleeping_endpoint_counts(edge: Edge) -> None:
    edge.apply(variant("bounded"), bounded=2)
    crowd = Crowd(edge)
    await crowd.add(2, edge.door)
    assert (await crowd.ask()).status_code == 429
    replica = edge.replica("r")
    edge.apply(variant("bounded", replica), bounded=2)
    assert (await crowd.ask()).status_code == 429
    counted = {"x-hearth-endpoint": "bounded", "x-hearth-counted": "1"}
    assert edge.internal.post("/v1/completions", b"", counted)["me"] == "r"  # what the door sends on for them
    edge.internal.post("/v1/completions", b"", {"x-hearth-endpoint": "bounded"})
    assert edge.internal.status == 429
    await crowd.leave()


async def test_bursts_never_have_more_than_the_bound_in_flight(edge: Edge) -> None:
    replica = edge.replica("r")
    edge.apply(variant("bounded", replica), bounded=4)
    url = f"http://127.0.0.1:{edge.config.port}{PATH}?sleep=0.3"
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        answers = await asyncio.gather(*(client.post(url, json={}) for _ in range(40)))
    assert Counter(each.status_code for each in answers)[200] == replica.started[PATH]
    assert replica.started[PATH] < 40


def test_others_are_not_bounded(edge: Edge) -> None:
    replica = edge.replica("r")
    edge.apply(variant("bounded", replica), variant("free", replica), bounded=1)
    for _ in range(20):
        assert edge.http.post("/endpoints/free/invocations", {})["me"] == "r"
        assert edge.http.post(PATH, {})["me"] == "r"


async def test_boto3_sees_a_throttling_exception(edge: Edge) -> None:
    replica = edge.replica("r")
    edge.apply(variant("bounded", replica), bounded=1)
    crowd = Crowd(edge)
    await crowd.add(1, replica)
    runtime: Any = boto3.client(
        "sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{edge.config.port}", region_name="us-east-1",
        aws_access_key_id="any", aws_secret_access_key="any", config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(runtime.invoke_endpoint, EndpointName="bounded", Body=b"{}")
    assert caught.value.response["Error"]["Code"] == "ThrottlingException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    await crowd.leave()


@pytest.mark.parametrize(("name", "most"), [("bad name", 1), ("good", 0)], ids=["name", "bound"])
def test_what_cannot_be_a_bound_is_refused(edge: Edge, name: str, most: int) -> None:
    with pytest.raises(ValueError, match=r"is no endpoint|below 1"):
        edge.client.apply(RouteTable(concurrency={name: most}))

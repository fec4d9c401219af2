"""Turns of several principals, through the guard, with a slow engine behind it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from server.dialects.application import dialect_app
from server.dialects.engine import Answer, Engines, Invocation
from server.dialects.identity import Identity
from server.errors import Unauthenticated
from server.guard.metrics import Metrics
from server.guard.middleware import Guard
from server.identity.authority import Claim
from server.identity.caller import Caller
from server.identity.canonical import Sent
from server.spec import Limits

CAPACITY = 4
PATH = "/endpoints/m/invocations"


@dataclass
class SlowEngine:
    """Answers when `let` is released; keeps who was answered, in order."""

    let: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    begun: list[bytes] = field(default_factory=list)
    ended: list[bytes] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def invoke(self, invocation: Invocation) -> Answer:
        self.begun.append(invocation.body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.let.acquire()
        finally:
            self.running -= 1
        self.ended.append(invocation.body)
        return Answer(invocation.body, "text/plain")


class NamedGate:
    """Whoever a bearer token names; `none` is nobody."""

    authority = None

    def claim(self, scope: Any) -> Claim:
        name = dict(scope["headers"]).get(b"authorization", b"Bearer none").split()[1].decode()
        if name == "none":
            raise Unauthenticated("who is it?")
        caller = Caller("123456789012", f"arn:aws:iam::123456789012:user/{name}", name, holder=name, name=name)
        return Claim(Sent.of(scope), caller)

    def admit(self, claim: Claim, *_rest: Any) -> Caller:
        assert claim.caller is not None
        return claim.caller


@dataclass
class Around:
    guard: Guard
    engine: SlowEngine
    client: httpx.AsyncClient
    asked: list[asyncio.Task[httpx.Response]] = field(default_factory=list)

    def ask(self, name: str, body: str, **more: Any) -> asyncio.Task[httpx.Response]:
        headers = {"authorization": f"Bearer {name}"}
        task = asyncio.create_task(self.client.post(PATH, content=body.encode(), headers=headers, **more))
        self.asked.append(task)
        return task

    async def until(self, holds: Any) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)


def around(limits: Limits, name: str = "m") -> Around:
    engine, identity = SlowEngine(), Identity(name, "AllTraffic", "r1")
    engines = Engines(payload=engine, capacity=CAPACITY)
    guard = Guard(
        dialect_app(engines, Identity("m", "AllTraffic", "r1"), limits), identity, limits, Metrics.of(identity),
        NamedGate(), opaque=True, capacity=engines.capacity,  # type: ignore[arg-type]
    )  # fmt: skip
    transport = httpx.ASGITransport(guard, raise_app_exceptions=False)
    return Around(guard, engine, httpx.AsyncClient(transport=transport, base_url="http://replica", timeout=30))


@pytest.fixture
async def replica() -> AsyncIterator[Around]:
    made = around(Limits())
    yield made
    await close(made)


async def close(made: Around) -> None:
    for task in made.asked:
        task.cancel()
    await asyncio.gather(*made.asked, return_exceptions=True)
    await made.client.aclose()
    assert made.guard.in_flight == 0


async def test_one_request_is_not_behind_a_flood(replica: Around) -> None:
    flood = [replica.ask("flood", f"flood {number}") for number in range(200)]
    await replica.until(lambda: replica.guard.in_flight == 200)
    one = replica.ask("one", "one")
    await replica.until(lambda: replica.guard.in_flight == 201)
    ends = 0
    while b"one" not in replica.engine.ended:
        replica.engine.let.release()
        ends += 1
        begun = CAPACITY + ends  # whose turn it was has begun
        await replica.until(lambda: (len(replica.engine.ended), len(replica.engine.begun)) == (ends, begun))  # noqa: B023
        assert ends <= CAPACITY + 3
    assert (await one).text == "one"
    for _ in range(200):
        replica.engine.let.release()
    answers = await asyncio.gather(*flood)
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.text for answer in answers] == [f"flood {number}" for number in range(200)]
    assert replica.engine.most == CAPACITY
    assert len(replica.engine.begun) == 201


async def test_clients_that_leave_while_they_wait(replica: Around) -> None:
    for number in range(20):
        replica.ask("flood", f"flood {number}")
    await replica.until(lambda: replica.guard.in_flight == 20)
    for task in replica.asked[CAPACITY:]:
        task.cancel()
    await replica.until(lambda: replica.guard.in_flight == CAPACITY)
    one = replica.ask("flood", "last")
    replica.engine.let.release()
    await replica.until(lambda: len(replica.engine.begun) == CAPACITY + 1)
    for _ in range(CAPACITY):
        replica.engine.let.release()
    assert (await one).text == "last"
    assert len(replica.engine.begun) == CAPACITY + 1


async def test_a_turn_that_does_not_come_in_time() -> None:
    made = around(Limits(queue_timeout_s=0.05))
    for number in range(CAPACITY):
        made.ask("a", str(number))
    await made.until(lambda: made.engine.running == CAPACITY)
    late = await made.ask("b", "late")
    assert (late.status_code, late.headers["x-amzn-errortype"]) == (429, "ThrottlingException")
    assert late.headers["retry-after"] == "1"
    assert "turn" in late.json()["Message"]
    made.engine.let.release()
    await made.until(lambda: made.guard.in_flight == CAPACITY - 1)
    await close(made)


async def test_a_flood_that_takes_every_place_gives_one_up() -> None:
    made = around(Limits(max_in_flight=16))
    flood = [made.ask("flood", f"flood {number}") for number in range(16)]
    await made.until(lambda: made.guard.in_flight == 16)
    refused = await made.ask("flood", "one more")
    assert refused.status_code == 429
    assert (await made.ask("none", "who")).status_code == 429  # unproven: heard when there is room
    one = made.ask("one", "one")
    displaced = await flood[-1]
    assert (displaced.status_code, displaced.headers["x-amzn-errortype"]) == (429, "ThrottlingException")
    for _ in range(2):  # a turn of the flood's may come first
        made.engine.let.release()
    await made.until(lambda: b"one" in made.engine.begun)
    for _ in range(20):
        made.engine.let.release()
    assert (await one).status_code == 200
    assert [answer.status_code for answer in await asyncio.gather(*flood)] == [200] * 15 + [429]
    await close(made)


async def test_when_nobody_waits_a_place_is_added() -> None:
    made = around(Limits(max_in_flight=CAPACITY))
    for number in range(CAPACITY):
        made.ask("flood", f"flood {number}")
    await made.until(lambda: made.engine.running == CAPACITY)
    assert (await made.ask("flood", "one more")).status_code == 429
    one = made.ask("one", "one")
    await made.until(lambda: made.guard.in_flight == CAPACITY + 1)
    assert (await made.ask("other", "too many")).status_code == 429  # the places beyond are bounded
    for _ in range(CAPACITY + 1):
        made.engine.let.release()
    assert (await one).text == "one"
    await close(made)


async def test_what_waits_is_counted_without_names() -> None:
    made = around(Limits(), "counted")
    for number in range(CAPACITY + 3):
        made.ask("ana", str(number))
    await made.until(lambda: made.guard.in_flight == CAPACITY + 3)
    labels = {"EndpointName": "counted", "VariantName": "AllTraffic"}
    assert REGISTRY.get_sample_value("hearth_queued", labels) == 3
    for _ in range(CAPACITY + 3):
        made.engine.let.release()
    await asyncio.gather(*made.asked)
    assert REGISTRY.get_sample_value("hearth_queue_wait_count", labels) == 3
    assert REGISTRY.get_sample_value("hearth_queued", labels) == 0
    named = [sample for family in REGISTRY.collect() for sample in family.samples if "ana" in sample.labels.values()]
    assert named == []
    await close(made)


async def test_brief_requests_take_no_place(replica: Around) -> None:
    for number in range(CAPACITY):
        replica.ask("a", str(number))
    await replica.until(lambda: replica.engine.running == CAPACITY)
    models = await replica.client.get("/v1/models", headers={"authorization": "Bearer b"})
    assert models.status_code == 200
    assert json.loads(models.content)["data"][0]["id"] == "m"

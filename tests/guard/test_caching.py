"""Answers from the cache, as boto3, openai and httpx see them; engines that answer by rule are behind the guard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from server.audit.sampling import Sampled
from server.dialects.application import dialect_app
from server.dialects.engine import Answer, Engines, Invocation
from server.errors import Forbidden
from server.guard.caching.cache import ResponseCache
from server.guard.metrics import Metrics
from server.guard.middleware import Guard
from server.identity.authority import Claim
from server.identity.caller import Caller
from server.identity.canonical import Sent
from server.metrics.distribution import Distribution
from server.spec import Cache, Limits, VariantSpec
from tests.fixtures.fake_engines import EchoText, LengthEmbedding, OpenAIApp, text_engines
from tests.fixtures.served import IDENTITY, serving

RUNTIME, CHAT = "/endpoints/m/invocations", "/v1/chat/completions"
GREEDY = {"inputs": "one two", "parameters": {"do_sample": False}}


@dataclass
class Counting:
    """A customer's model that says how often it was asked. It waits for `let` where it is told to."""

    asked: int = 0
    running: int = 0
    held: bool = False
    let: asyncio.Event = field(default_factory=asyncio.Event)
    fails: bool = False

    async def invoke(self, invocation: Invocation) -> Answer:
        self.asked += 1
        number = self.asked
        self.running += 1
        try:
            if self.held:
                await self.let.wait()
        finally:
            self.running -= 1
        if self.fails:
            raise RuntimeError("secret")
        return Answer(b"%d:" % number + invocation.body, "text/plain")


class NamedGate:
    """Whoever a bearer token names, as ACCOUNT/NAME; `nobody` may do nothing."""

    authority = None

    def claim(self, scope: Any) -> Claim:
        said = dict(scope["headers"]).get(b"authorization", b"Bearer 1/root").split()[1].decode()
        account, _, name = said.partition("/")
        return Claim(Sent.of(scope), caller=Caller(account, f"arn:{name}", name, holder=name))

    def admit(self, claim: Claim, *_: Any) -> Caller:
        caller = claim.caller
        assert caller is not None
        if caller.id == "nobody":
            raise Forbidden("User is not authorized")
        return caller


def guard_of(engines: Engines, wanted: Cache | None = None, limits: Limits | None = None, **more: Any) -> Guard:
    limits, metrics = limits or Limits(), Metrics.of(IDENTITY)
    variant = VariantSpec(model="x", cache=wanted or Cache(deterministic=True), limits=limits)
    cache = ResponseCache.of(variant, engines, IDENTITY, metrics, more.get("capturing"))
    app = dialect_app(engines, IDENTITY, limits)
    opaque = engines.payload is not None
    return Guard(app, IDENTITY, limits, metrics, opaque=opaque, capacity=engines.capacity, cache=cache, **more)


def client_of(guard: Guard) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(guard, raise_app_exceptions=False), base_url="http://r")


async def until(true: Any) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)


def counted(result: str) -> float:
    labels = {"EndpointName": "m", "VariantName": "AllTraffic", "result": result}
    return REGISTRY.get_sample_value("hearth_cache_requests_total", labels) or 0.0


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    text, app = EchoText(), OpenAIApp()
    with serving(guard_of(replace(text_engines(text, app), embedding=LengthEmbedding()))) as served:
        yield served, text, app


def test_boto3_sees_a_miss_and_then_hits(served: Any) -> None:
    server, text, _ = served
    client, before = server.boto3(), len(text.seen)

    def ask(**more: Any) -> tuple[str, bytes, dict[str, Any]]:
        answer = client.invoke_endpoint(
            EndpointName="m", ContentType="application/json", Body=json.dumps(GREEDY), CustomAttributes="c=1", **more
        )
        return answer["ResponseMetadata"]["HTTPHeaders"]["x-cache"], answer["Body"].read(), answer

    first, second, third = ask(), ask(InferenceId="one"), ask(InferenceId="two")
    assert [said for said, _, _ in (first, second, third)] == ["miss", "hit", "hit"]
    assert first[1] == second[1] == third[1]
    assert len(text.seen) == before + 1
    answers = [answer for _, _, answer in (first, second, third)]
    assert len({each["ResponseMetadata"]["RequestId"] for each in answers}) == 3
    for each in answers:
        assert (each["InvokedProductionVariant"], each["CustomAttributes"]) == ("AllTraffic", "c=1")
        assert each["ContentType"] == "application/json"
        headers = each["ResponseMetadata"]["HTTPHeaders"]
        assert headers["x-request-id"] == headers["x-amzn-requestid"]


def test_openai_sees_bypass_where_tokens_are_drawn_and_hits_where_not(served: Any) -> None:
    server, _, app = served
    client = server.openai().chat.completions.with_raw_response

    def ask(said: str, **more: Any) -> tuple[str, str]:
        answer = client.create(model="m", messages=[{"role": "user", "content": said}], **more)
        return answer.headers["x-cache"], answer.parse().choices[0].message.content

    before = len(app.bodies)
    assert ask("drawn") == ask("drawn") == ("bypass", "drawn")
    assert [ask("same", temperature=0) for _ in range(2)] == [("miss", "same"), ("hit", "same")]
    assert [ask("same", seed=1) for _ in range(2)] == [("miss", "same"), ("hit", "same")]
    assert ask("same", seed=2)[0] == "miss"
    assert len(app.bodies) == before + 5


def test_streams_are_never_kept(served: Any) -> None:
    server, _, app = served
    client = server.openai().chat.completions.with_raw_response
    before = len(app.bodies)
    for _ in range(2):
        messages: Any = [{"role": "user", "content": "a b"}]
        answer = client.create(model="m", messages=messages, temperature=0, stream=True)
        assert answer.headers["x-cache"] == "bypass"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in answer.parse() if chunk.choices) == "ab"
    assert len(app.bodies) == before + 2
    for _ in range(2):
        events = server.boto3().invoke_endpoint_with_response_stream(
            EndpointName="m", ContentType="application/json", Body=json.dumps(GREEDY)
        )
        assert events["ResponseMetadata"]["HTTPHeaders"]["x-cache"] == "bypass"
        assert b"one two" in b"".join(event["PayloadPart"]["Bytes"] for event in events["Body"])


async def test_errors_are_never_kept() -> None:
    app = OpenAIApp()
    async with client_of(guard_of(text_engines(openai=app))) as client:
        for said, status in (("bad", 400), ("crash", 500)):
            body = {"model": "m", "messages": [{"role": "user", "content": said}], "temperature": 0}
            answers = [await client.post(CHAT, json=body) for _ in range(2)]
            assert [(each.status_code, each.headers["x-cache"]) for each in answers] == [(status, "miss")] * 2
    assert len(app.bodies) == 4


async def test_answers_of_a_declared_model_are_exact_and_metered() -> None:
    model, before = Counting(), {result: counted(result) for result in ("hit", "miss", "bypass")}
    guard = guard_of(Engines(payload=model))
    async with client_of(guard) as client:
        bodies = (b"1,2", b"1,2 ", b"1,2")
        answers = [await client.post(RUNTIME, content=body, headers={"content-type": "text/csv"}) for body in bodies]
        assert [each.content for each in answers] == [b"1:1,2", b"2:1,2 ", b"1:1,2"]
        other = await client.post(RUNTIME, content=b"1,2", headers={"content-type": "text/plain"})
        session = {"content-type": "text/csv", "x-amzn-sagemaker-session-id": "s"}
        bypassed = await client.post(RUNTIME, content=b"1,2", headers=session)
    said = [each.headers["x-cache"] for each in (*answers, other, bypassed)]
    assert said == ["miss", "miss", "hit", "miss", "bypass"]
    assert {result: counted(result) - had for result, had in before.items()} == {"hit": 1, "miss": 3, "bypass": 1}
    hits = [period["metrics"]["ResponseCacheHits"] for period in guard._metrics.periods.closed(all_of_them=True)]
    values = [Distribution.from_wire(each) for each in hits]
    assert (sum(each.count for each in values), sum(each.total for each in values)) == (4, 1)
    assert guard.requests_total == 5


async def test_a_model_that_declared_nothing_is_asked_each_time() -> None:
    model = Counting()
    async with client_of(guard_of(Engines(payload=model), Cache())) as client:
        for _ in range(2):
            assert (await client.post(RUNTIME, content=b"x")).headers["x-cache"] == "bypass"
    assert model.asked == 2


async def test_cache_control_of_the_client() -> None:
    model = Counting()
    async with client_of(guard_of(Engines(payload=model))) as client:

        async def ask(control: str = "") -> tuple[str, bytes]:
            answer = await client.post(RUNTIME, content=b"x", headers={"cache-control": control})
            return answer.headers["x-cache"], answer.content

        assert [await ask(), await ask("no-store")] == [("miss", b"1:x"), ("bypass", b"2:x")]
        assert await ask() == ("hit", b"1:x")
        assert [await ask("No-Cache"), await ask()] == [("miss", b"3:x"), ("hit", b"3:x")]


async def test_accounts_never_share_and_principals_as_asked() -> None:
    for shared_by, same in (("account", "hit"), ("principal", "miss")):
        wanted = Cache.model_validate({"deterministic": True, "shared_by": shared_by})
        guard = guard_of(Engines(payload=Counting()), wanted, gate=NamedGate())
        async with client_of(guard) as client:

            async def ask(who: str, client: httpx.AsyncClient = client) -> str:
                answer = await client.post(RUNTIME, content=b"x", headers={"authorization": f"Bearer {who}"})
                return answer.headers["x-cache"]

            said = [await ask(who) for who in ("1/ann", "1/ann", "1/bob", "2/ann")]
            assert said == ["miss", "hit", same, "miss"]


async def test_a_hit_is_authorised_counted_and_sampled_for_the_audit_log() -> None:
    sampled = Sampled(1.0)
    guard = guard_of(Engines(payload=Counting()), gate=NamedGate(), sampled=sampled)
    async with client_of(guard) as client:
        await client.post(RUNTIME, content=b"x")
        refused = await client.post(RUNTIME, content=b"x", headers={"authorization": "Bearer 1/nobody"})
        assert refused.status_code == 403
        assert "x-cache" not in refused.headers
        assert (await client.post(RUNTIME, content=b"x")).headers["x-cache"] == "hit"
    assert [call.status for call in sampled.take()[0]] == [200, 403, 200]
    assert guard.requests_total == 3


async def test_a_hit_is_captured() -> None:
    events: list[Any] = []
    capture = SimpleNamespace(output=True)
    held = SimpleNamespace(capture=capture, size=0, hold=lambda _: True, offer=events.append)
    capturing: Any = SimpleNamespace(sample=lambda: held)
    async with client_of(guard_of(Engines(payload=Counting()), capturing=capturing)) as client:
        answers = [await client.post(RUNTIME, content=b"x") for _ in range(2)]
    assert [each.headers["x-cache"] for each in answers] == ["miss", "hit"]
    assert [(event.body, b"".join(event.answer)) for event in events] == [(b"x", b"1:x")] * 2
    assert [event.request_id for event in events] == [each.headers["x-request-id"] for each in answers]


async def test_the_same_at_once_is_computed_once() -> None:
    model = Counting(held=True)
    before = counted("joined")
    guard = guard_of(Engines(payload=model))
    async with client_of(guard) as client:
        tasks = [asyncio.create_task(client.post(RUNTIME, content=b"x")) for _ in range(8)]
        other = asyncio.create_task(client.post(RUNTIME, content=b"y"))
        await until(lambda: guard.in_flight == 9 and model.running == 2)
        model.let.set()
        answers = await asyncio.gather(*tasks)
        assert (await other).content == b"2:y"
    assert {each.content for each in answers} == {b"1:x"}
    assert sorted(each.headers["x-cache"] for each in answers) == ["hit"] * 7 + ["miss"]
    assert len({each.headers["x-amzn-requestid"] for each in answers}) == 8
    assert counted("joined") - before == 7


async def test_those_who_wait_take_no_turn_of_the_engine() -> None:
    model = Counting(held=True)
    guard = guard_of(Engines(payload=model, capacity=2))
    async with client_of(guard) as client:
        tasks = [asyncio.create_task(client.post(RUNTIME, content=b"x")) for _ in range(6)]
        await until(lambda: guard.in_flight == 6 and model.running == 1)
        other = asyncio.create_task(client.post(RUNTIME, content=b"y"))
        await until(lambda: model.running == 2)
        model.let.set()
        await asyncio.gather(*tasks, other)
    assert model.asked == 2


async def test_a_leader_that_leaves_leaves_its_followers_an_answer() -> None:
    model = Counting(held=True)
    guard = guard_of(Engines(payload=model))
    gone = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> Any:
        if not sent:
            sent.append(None)
            return {"type": "http.request", "body": b"x", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError("the leader was answered")

    scope = {"type": "http", "method": "POST", "path": RUNTIME, "raw_path": RUNTIME.encode(), "query_string": b"",
             "headers": []}  # fmt: skip
    leader = asyncio.create_task(guard(scope, receive, send))
    await until(lambda: model.running == 1)
    async with client_of(guard) as client:
        followers = [asyncio.create_task(client.post(RUNTIME, content=b"x")) for _ in range(3)]
        await until(lambda: guard.in_flight == 4)
        gone.set()
        await until(lambda: model.asked == 2)
        await leader
        model.let.set()
        answers = await asyncio.gather(*followers)
    assert {each.content for each in answers} == {b"2:x"}
    assert sorted(each.headers["x-cache"] for each in answers) == ["hit", "hit", "miss"]


async def test_followers_of_a_failure_ask_for_themselves_and_side_by_side() -> None:
    model = Counting(held=True, fails=True)
    guard = guard_of(Engines(payload=model))
    async with client_of(guard) as client:
        tasks = [asyncio.create_task(client.post(RUNTIME, content=b"x")) for _ in range(4)]
        await until(lambda: guard.in_flight == 4 and model.running == 1)
        model.let.set()
        answers = await asyncio.gather(*tasks)
    assert {each.status_code for each in answers} == {424}
    assert model.asked == 4


async def test_a_large_answer_is_given_and_not_kept() -> None:
    model = Counting()
    async with client_of(guard_of(Engines(payload=model), Cache(deterministic=True, max_entry_bytes=10))) as client:
        for number in (1, 2):
            answer = await client.post(RUNTIME, content=b"x" * 20)
            assert (answer.content, answer.headers["x-cache"]) == (b"%d:" % number + b"x" * 20, "miss")


async def test_without_a_cache_nothing_is_said_of_it() -> None:
    app = dialect_app(Engines(payload=Counting()), IDENTITY, Limits())
    async with client_of(Guard(app, IDENTITY, Limits(), Metrics.of(IDENTITY), opaque=True)) as client:
        assert "x-cache" not in (await client.post(RUNTIME, content=b"x")).headers

"""Copies of requests to shadows that hang, refuse, break off, are slow or well: production never notices.

What happens is ordered by events: a shadow that hangs is let go only after every client has its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from server.dialects.identity import Identity
from server.shadow.copier import Copier
from server.shadow.copies import Address, Answered, Copy, Target
from server.shadow.seal import Seal
from server.shadow.tally import Tally
from tests.fixtures.fake_engines import EchoText, OpenAIApp, text_engines
from tests.fixtures.served import Served, guarded, serving

TOKEN = "token-of-this-hearth"
SHADOW = Identity("m", "Shadow", "replica-2")
RUNTIME = "/endpoints/m/invocations"
JSON = {"content-type": "application/json"}
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def target(*replicas: Address, **more: Any) -> Target:
    return replace(Target("subject", "Shadow", 1.0, True, 30.0, replicas), **more)


@asynccontextmanager
async def copier(aim: Target | None = None, **more: Any) -> AsyncIterator[Copier]:
    made = Copier(Seal(TOKEN, "m"), "m", **more)
    made.aim(aim)
    try:
        yield made
    finally:
        await made.stop()


@contextmanager
def production(copying: Copier | None, app: OpenAIApp | None = None) -> Iterator[Served]:
    with serving(guarded(text_engines(EchoText(), openai=app), copying=copying, seal=Seal(TOKEN, "m"))) as served:
        yield served


@contextmanager
def shadow(text: EchoText | None = None, app: OpenAIApp | None = None, **more: Any) -> Iterator[Served]:
    engines = text_engines(text or EchoText(), openai=app)
    with serving(guarded(engines, identity=SHADOW, seal=Seal(TOKEN, "m"), **more)) as served:
        yield served


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[Address]:
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def ask(served: Served, count: int, size: int = 3) -> list[tuple[int, bytes]]:
    """What clients get, one after the other."""
    async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=20) as client:
        answers = [
            await client.post(RUNTIME, json={"inputs": f"number {n} " + "x" * size}) for n in range(count)
        ]
    return [(answer.status_code, answer.content) for answer in answers]


async def send(served: Served, path: str, method: str = "POST", **request: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=20) as client:
        return await client.request(method, path, **request)


async def expected(count: int, size: int = 3) -> list[tuple[int, bytes]]:
    with production(None) as served:
        return await ask(served, count, size)


def counts(made: Copier) -> dict[str, int]:
    tallies = made.message()["tallies"]
    if not tallies:
        return {}
    return {name: count for name, count in Tally.from_wire(tallies["subject"]).counts.items() if count}


async def settled(made: Copier, sampled: int) -> None:
    """So many requests were sampled, and all their copies are done with: a client has its answer before that."""
    await until(lambda: counts(made).get("sampled") == sampled and made.held == 0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for happens on other threads
            await asyncio.sleep(0.005)


async def test_a_hanging_shadow_holds_nobody_up_and_takes_bounded_memory() -> None:
    free, asked = asyncio.Event(), 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        await free.wait()
        writer.close()

    async with listening(hang) as address, copier(target(address), most=6) as made:
        with production(made) as served:
            assert await ask(served, 16) == await expected(16)
            await until(lambda: asked == 1)  # production had one in flight
            assert not free.is_set()
            await until(lambda: counts(made) == {"sampled": 16, "dropped": 10})
            assert made.held == 6
        free.set()
        await until(lambda: made.held == 0)
        assert made.held_bytes == 0
        assert counts(made) == {"sampled": 16, "dropped": 10, "failed": 6}


async def test_memory_is_bounded_by_bytes_too() -> None:
    free = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await free.wait()
        writer.close()

    async with listening(hang) as address, copier(target(address), most_bytes=25_000) as made:
        with production(made) as served:
            assert await ask(served, 6, 5000) == await expected(6, 5000)
            await until(lambda: counts(made) == {"sampled": 6, "dropped": 4})
            assert made.held_bytes <= 25_000
        free.set()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", b"\0\0\0 nonsense\r\n\r\n"],
    ids=["at once", "midway", "with nonsense"],
)
async def test_a_shadow_that_breaks_off_changes_nothing(answer: bytes) -> None:
    async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with listening(crash) as address, copier(target(address)) as made:
        with production(made) as served:
            assert await ask(served, 3) == await expected(3)
            await settled(made, 3)
    assert counts(made) == {"sampled": 3, "failed": 3}


async def test_a_shadow_that_refuses_connections_changes_nothing() -> None:
    async with listening(lambda _r, _w: asyncio.sleep(0)) as address:
        pass
    async with copier(target(address)) as made:
        with production(made) as served:
            assert await ask(served, 3) == await expected(3)
            await settled(made, 3)
    assert counts(made) == {"sampled": 3, "failed": 3}


async def test_a_shadow_that_is_too_slow_is_given_up() -> None:
    async def forever(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"drop")
            await asyncio.sleep(0.01)

    async with listening(forever) as address, copier(target(address, timeout_s=0.2)) as made:
        with production(made) as served:
            assert await ask(served, 3) == await expected(3)
            await settled(made, 3)
    assert counts(made) == {"sampled": 3, "timed_out": 3}


async def test_without_a_replica_nothing_waits() -> None:
    async with copier(target()) as made:
        with production(made) as served:
            assert await ask(served, 3) == await expected(3)
            await settled(made, 3)
    assert counts(made) == {"sampled": 3, "no_replica": 3}


async def test_only_a_share_is_copied() -> None:
    draws = iter([0.1, 0.5, 0.9, 0.2])
    async with copier(target(share=0.5), draw=lambda: next(draws)) as made:
        with production(made) as served:
            await ask(served, 4)
            await settled(made, 2)


async def test_the_same_model_answers_the_same() -> None:
    with shadow() as other:
        async with copier(target(("127.0.0.1", other.port))) as made:
            with production(made) as served:
                assert await ask(served, 10) == await expected(10)
                await settled(made, 10)
        assert counts(made) == {
            "sampled": 10, "compared": 10, "status_equal": 10, "answers_compared": 10, "answers_equal": 10,
        }  # fmt: skip
        report = Tally.from_wire(made.message()["tallies"]["subject"]).report()
        assert report["statuses"] == {"200/200": 10}
        assert report["similarity"] == {"average": 1.0, "least": 1.0}
        assert report["latency"]["ratio"]["p50"] is not None
        assert made.message()["pairs"] == []


async def test_a_shadow_that_answers_otherwise_is_told_of() -> None:
    class Other(OpenAIApp):
        async def _respond(self, path: str, body: dict[str, Any]) -> Any:
            return await super()._respond(path, {**body, "messages": [{"content": "red green black"}]})

    chat = {"model": "m", "messages": [{"role": "user", "content": "red green blue"}]}
    with shadow(app=Other()) as other:
        async with copier(target(("127.0.0.1", other.port))) as made:
            with production(made, OpenAIApp()) as served:
                answers = [(await send(served, "/v1/chat/completions", json=chat)).json() for _ in range(3)]
                await settled(made, 3)
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == ["red green blue"] * 3
    found = Tally.from_wire(made.message()["tallies"]["subject"]).report()
    assert (found["answers_compared"], found["answers_equal"]) == (3, 0)
    assert found["similarity"]["average"] == pytest.approx(0.8)
    message = made.message()
    assert len(message["pairs"]) == 3
    made.delivered(message)
    made.delivered(message)  # another beat carried the same
    assert made.message()["pairs"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{RUNTIME}-response-stream", {"inputs": "one two three", "stream": True}),
        (f"{RUNTIME}-response-stream", {"inputs": "one two three"}),
        ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "a b c"}], "stream": True}),
    ],
)
async def test_streams_are_copied_and_consumed(path: str, body: dict[str, Any]) -> None:
    with shadow(app=OpenAIApp()) as other:
        async with copier(target(("127.0.0.1", other.port))) as made:
            with production(made, OpenAIApp()) as served:
                assert (await send(served, path, json=body)).status_code == 200
                await settled(made, 1)
    assert counts(made) == {
        "sampled": 1, "compared": 1, "status_equal": 1, "answers_compared": 1, "answers_equal": 1,
    }  # fmt: skip


async def test_what_no_model_was_asked_is_not_copied() -> None:
    async with copier(target()) as made:
        with production(made, OpenAIApp()) as served:
            assert (await send(served, "/v1/models", "GET")).status_code == 200
            assert (await send(served, "/ping", "GET")).status_code == 200
            assert (await send(served, RUNTIME, content=b"{", headers=JSON)).status_code == 424
    assert made.message()["tallies"] == {}


async def test_a_shadow_gets_the_request_without_what_is_the_client_s_own() -> None:
    got: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        got.append(head + await reader.readexactly(len(json.dumps(body))))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    body = {"inputs": "one"}
    headers = {
        "authorization": "AWS4-HMAC-SHA256 secret", "x-amz-security-token": "secret", "x-request-id": "r-1",
        "content-type": "application/json", "accept": "application/json", "x-amzn-sagemaker-custom-attributes": "kept",
        "x-hearth-shadow-of": "forged",
    }  # fmt: skip
    async with listening(note) as address, copier(target(address)) as made:
        with production(made) as served:
            await send(served, RUNTIME, content=json.dumps(body), headers=headers)
            await settled(made, 1)
    (copy,) = got
    assert copy.endswith(json.dumps(body).encode())
    assert b"secret" not in copy
    assert b"forged" not in copy
    for line in (b"x-request-id: r-1", b"accept: application/json", b"x-amzn-sagemaker-custom-attributes: kept"):
        assert copy.lower().count(line + b"\r\n") == 1
    assert copy.count(b"x-hearth-shadow: ") == 1


async def test_what_waits_when_the_replica_stops_is_dropped() -> None:
    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(hang) as address, copier(target(address), under_way=2) as made:
        with production(made) as served:
            await ask(served, 5)
            await until(lambda: counts(made) == {"sampled": 5})
            await made.stop()
            assert (made.held, made.held_bytes) == (0, 0)
            assert await ask(served, 1) == await expected(1)
            await settled(made, 6)
    assert counts(made) == {"sampled": 6, "dropped": 6}


async def test_no_more_copies_are_under_way_than_production_had_in_flight() -> None:
    free, asked = asyncio.Event(), 0

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await free.wait()

    def copy(beside: int) -> Copy:
        answer = Answered(200, (), b"", 0.1)
        return Copy(target(address), f"r{beside}", RUNTIME, (), b"{}", answer, 0.0, beside)

    async with listening(hang) as address, copier(target(address), under_way=3) as made:
        for beside, under_way in ((1, 1), (1, 1), (2, 2), (9, 3), (1, 3)):
            made.offer(copy(beside))
            await until(lambda at_most=under_way: asked == at_most)  # type: ignore[misc]
        assert made.held == 5
        free.set()


async def test_the_time_of_the_shadow_s_model_is_its_own_word() -> None:
    async def slow_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nx-hearth-model-seconds: 1000\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with listening(slow_way) as address, copier(target(address)) as made:
        with production(made) as served:
            await ask(served, 1)
            await settled(made, 1)
    report = Tally.from_wire(made.message()["tallies"]["subject"]).report()
    assert report["latency"]["shadow_ms"]["p50"] == pytest.approx(1_000_000, rel=0.02)


async def test_only_copies_are_told_how_long_the_model_took() -> None:
    with shadow() as other:
        answer = await send(other, RUNTIME, json={"inputs": "one"})
        assert "x-hearth-model-seconds" not in answer.headers
        sealed = Seal(TOKEN, "m").header("Shadow", "r-1", RUNTIME, answer.request.content)
        copied = {**JSON, "x-request-id": "r-1", "x-hearth-shadow": sealed}
        answer = await send(other, RUNTIME, content=answer.request.content, headers=copied)
        assert float(answer.headers["x-hearth-model-seconds"]) > 0

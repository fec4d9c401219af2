"""The guard around a replica, over real sockets where the wire matters."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from botocore.exceptions import ClientError, EventStreamError
from prometheus_client import REGISTRY

from server.dialects.engine import Engines
from server.spec import Limits
from tests.fixtures.fake_engines import EchoText, OpenAIApp, text_engines
from tests.fixtures.served import Served, guarded, serving

OPENAI = "/v1/chat/completions"
RUNTIME = "/endpoints/m/invocations"


def client_of(engines: Engines, limits: Limits | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(guarded(engines, limits), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://replica")


def chat(said: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": said}], **more}


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def request_bytes(path: str, body: bytes, length: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


async def test_a_request_id_is_kept_or_made() -> None:
    app = OpenAIApp()
    async with client_of(text_engines(openai=app)) as client:
        answer = await client.post(OPENAI, json=chat("hi"), headers={"x-request-id": "edge-1"})
        assert answer.headers["x-request-id"] == app.headers[-1]["x-request-id"] == "edge-1"
        for bad in ("a b", "x" * 129, "<script>"):
            answer = await client.post(OPENAI, json=chat("hi"), headers={"x-request-id": bad})
            made = answer.headers["x-request-id"]
            assert made not in ("", bad)
            assert app.headers[-1]["x-request-id"] == made
        answer = await client.post("/endpoints/nope/invocations", json={})
        assert answer.headers["x-amzn-requestid"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "status"),
    [(OPENAI, 413), ("/invocations", 413), (RUNTIME, 413), ("/endpoints/m/invocations-response-stream", 413)],
)
async def test_a_body_over_the_limit(path: str, status: int) -> None:
    async with client_of(text_engines(), Limits(max_body_bytes=1000)) as client:

        async def chunks() -> Any:
            for _ in range(100):
                yield b'{"inputs": "' + b"x" * 100

        for content in (b"x" * 1001, chunks()):
            answer = await client.post(path, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == status
            assert "larger than 1000 bytes" in answer.text


def test_a_lying_length_is_no_way_around() -> None:
    with serving(guarded(text_engines(), Limits(max_body_bytes=1000))) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(f"POST {OPENAI} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            raw.sendall((b"200\r\n" + b"x" * 512 + b"\r\n") * 4)
            assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]
        until(lambda: served.guard.in_flight == 0)


@pytest.mark.parametrize("path", [OPENAI, RUNTIME])
def test_a_half_sent_body_times_out(path: str) -> None:
    with serving(guarded(text_engines(), Limits(body_timeout_s=0.2))) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.settimeout(30)
            raw.sendall(request_bytes(path, b'{"inputs": "a', length=100))
            assert b" 408 " in raw.recv(4096).split(b"\r\n")[0]
        until(lambda: served.guard.in_flight == 0)


def test_a_client_that_leaves_while_sending_frees_its_slot() -> None:
    with serving(guarded(text_engines())) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(request_bytes(RUNTIME, b'{"inputs": "a', length=100))
            until(lambda: served.guard.in_flight == 1)
        until(lambda: served.guard.in_flight == 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (RUNTIME, {"inputs": " ".join(["w"] * 190)}),
        (RUNTIME, {"inputs": [" ".join(["w"] * 190)] * 3}),
        (RUNTIME + "-response-stream", {"inputs": " ".join(["w"] * 190)}),
        ("/invocations", {"inputs": " ".join(["w"] * 190), "stream": True}),
        (OPENAI, chat("hang")),
        (OPENAI, chat("a SLOW", stream=True)),
        (RUNTIME, chat("hang")),
        (RUNTIME + "-response-stream", chat("a SLOW", stream=True)),
    ],
)
def test_a_client_that_leaves_frees_its_slot_within_a_second(path: str, body: dict[str, Any]) -> None:
    text, app = EchoText(delay_s=0.3), OpenAIApp()
    with serving(guarded(text_engines(text, app))) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(request_bytes(path, json.dumps(body).encode()))
            until(lambda: text.running + app.running > 0)
            time.sleep(0.4)
            assert served.guard.in_flight == 1
        until(lambda: served.guard.in_flight == 0 and text.running + app.running == 0)
        assert served.boto3().invoke_endpoint(EndpointName="m", Body=b'{"inputs": "a"}')["Body"].read()


def test_over_the_limit_is_refused_at_once_in_each_dialect() -> None:
    app = OpenAIApp()
    with serving(guarded(text_engines(openai=app), Limits(max_in_flight=1))) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(request_bytes(OPENAI, json.dumps(chat("hang")).encode()))
            until(lambda: app.running == 1)
            with pytest.raises(ClientError) as throttled:
                served.boto3().invoke_endpoint(EndpointName="m", Body=b'{"inputs": "a"}')
            assert throttled.value.response["Error"]["Code"] == "ThrottlingException"
            assert throttled.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
            with pytest.raises(openai.RateLimitError) as limited:
                served.openai().chat.completions.create(**chat("hi"))
            assert limited.value.response.headers["retry-after"] == "1"
            assert httpx.post(f"{served.url}/invocations", json={"inputs": "a"}).status_code == 429
            assert httpx.get(f"{served.url}/ping").status_code == 200
        until(lambda: served.guard.in_flight == 0)
        assert served.openai().chat.completions.create(**chat("hi")).choices


async def test_an_answer_that_takes_too_long() -> None:
    app = OpenAIApp()
    async with client_of(text_engines(EchoText(delay_s=60), app), Limits(request_timeout_s=0.1)) as client:
        assert (await client.post(OPENAI, json=chat("hang"))).status_code == 500
        answer = await client.post(RUNTIME, json={"inputs": "a"})
        assert (answer.status_code, answer.json()["OriginalStatusCode"]) == (424, 500)
        assert "0.1 s" in answer.json()["OriginalMessage"]
        assert (app.running, app.cancelled) == (0, 1)


def test_a_stream_that_takes_too_long_says_so_or_is_cut() -> None:
    with serving(guarded(text_engines(EchoText()), Limits(request_timeout_s=1.5))) as served:
        body = json.dumps({"inputs": "a SLOW"})
        events = served.boto3().invoke_endpoint_with_response_stream(EndpointName="m", Body=body)["Body"]
        with pytest.raises(EventStreamError, match="did not finish within"):
            list(events)
        events.close()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            httpx.post(served.url + OPENAI, json=chat("a SLOW", stream=True))


@pytest.mark.parametrize("path", [OPENAI, RUNTIME, RUNTIME + "-response-stream"])
def test_a_client_that_does_not_read_gives_its_slot_back(path: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})

    guard = guarded(text_engines(openai=app), Limits(request_timeout_s=0.3))
    with serving(guard) as served, socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(request_bytes(path, json.dumps(chat("hi", stream=True)).encode()))
        until(lambda: guard.in_flight == 1)
        until(lambda: guard.in_flight == 0)


def test_an_answer_that_breaks_is_cut_off_not_ended() -> None:
    with serving(guarded(text_engines())) as served:
        for path, body in (
            (OPENAI, chat("a CRASH", stream=True)),
            ("/invocations", {"inputs": "a MIDWAY", "stream": True}),
        ):
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                httpx.post(served.url + path, json=body)
        until(lambda: served.guard.in_flight == 0)


@pytest.mark.parametrize("path", [OPENAI, RUNTIME, "/invocations"])
async def test_deep_json_is_refused(path: str) -> None:
    async with client_of(text_engines()) as client:
        begun = time.monotonic()
        for body in (b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"a":' * 100_000):
            answer = await client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (400, 424)
            assert "nested deeper" in answer.text
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"\xff", 400), (b"[]", 400), (b'{"model": "other"}', 404), (b'{"n": 1000000}', 400)],
)
async def test_bad_bodies_do_not_reach_the_application(body: bytes, status: int) -> None:
    app = OpenAIApp()
    async with client_of(text_engines(openai=app)) as client:
        answer = await client.post(OPENAI, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
        assert (await client.post(OPENAI, content=body, headers={"content-type": "text/plain"})).status_code == 415
    assert app.bodies == []


async def test_the_server_goes_on_and_counts() -> None:
    def total(name: str) -> float:
        return REGISTRY.get_sample_value(name, {"EndpointName": "m", "VariantName": "AllTraffic"}) or 0.0

    names = ("Invocations_total", "Invocation4XXErrors_total", "Invocation5XXErrors_total", "ModelLatency_count")
    before = [total(name) for name in names]
    guard = guarded(text_engines())
    transport = httpx.ASGITransport(guard, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        await client.post(OPENAI, json=chat("hi"))
        await client.post(OPENAI, json=chat("hi", n=99))
        await client.post(OPENAI, json=chat("crash"))
        await client.get("/ping")
    assert [total(name) - was for name, was in zip(names, before, strict=True)] == [3, 1, 1, 3]
    assert (guard.in_flight, guard.requests_total) == (0, 3)


async def test_a_server_that_stops_cancels_what_runs() -> None:
    """A cancellation that is not the guard's own goes through it."""
    app = OpenAIApp()
    guard = guarded(text_engines(openai=app))
    transport = httpx.ASGITransport(guard, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        task = asyncio.create_task(client.post(OPENAI, json=chat("hang")))
        await asyncio.wait_for(app.hanging.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (guard.in_flight, app.cancelled) == (0, 1)


def test_many_leave_and_none_is_left_behind() -> None:
    text = EchoText(delay_s=0.05)
    with serving(guarded(text_engines(text))) as served:
        _leave_at_once(served, 30)
        until(lambda: served.guard.requests_total == 30 and served.guard.in_flight == 0 and text.running == 0)
        assert text.aborted == len(text.seen)


def test_an_application_that_watches_its_client_itself() -> None:
    """vLLM's handlers wait on `receive` beside their work, and return when the client leaves."""
    outcome: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        work = asyncio.create_task(asyncio.sleep(60))
        watch = asyncio.create_task(receive())
        try:
            await asyncio.wait([work, watch], return_when=asyncio.FIRST_COMPLETED)
            outcome.append(watch.result()["type"])
        finally:
            work.cancel()
            watch.cancel()

    with serving(guarded(text_engines(openai=app))) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(request_bytes(OPENAI, json.dumps(chat("hi")).encode()))
            until(lambda: served.guard.in_flight == 1)
        until(lambda: served.guard.in_flight == 0)
    assert outcome in ([], ["http.disconnect"]), "whoever sees it first ends it"


def _leave_at_once(served: Served, count: int) -> None:
    body = json.dumps({"inputs": " ".join(["w"] * 150)}).encode()
    connections = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(count)]
    for connection in connections:
        connection.sendall(request_bytes(RUNTIME, body))
    until(lambda: served.guard.requests_total == count)
    for connection in connections:
        connection.close()

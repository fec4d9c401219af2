"""The generator against a local server whose answers the test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.arrivals import Arrival
from benchmarks.cli import bench
from benchmarks.client import Client, Origin, TransportError
from benchmarks.load import Plan, run
from benchmarks.report import document
from benchmarks.target import Keys, Target
from tests.benchmarks.fake_server import (
    FakeServer,
    Request,
    chunked,
    completion,
    completion_events,
    response,
    serving,
)

UNARY = Target("http://replaced", "m", stream=False)


def plan(server: FakeServer, **changes: object) -> Plan:
    base = Plan(replace(UNARY, url=server.url), ("one", "two"), 4, concurrency=2, requests=6, warmup_s=0.0)
    return replace(base, **changes)  # type: ignore[arg-type]


async def fine(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(completion("hi", 4))


def test_a_closed_loop_keeps_its_number_in_flight() -> None:
    flying, most, together = 0, 0, asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        if flying == 3:
            together.set()
        await asyncio.wait_for(together.wait(), 60)
        await asyncio.sleep(0.01)
        flying -= 1
        writer.write(completion("hi", 4))

    with serving(answer) as server:
        summary = run(plan(server, concurrency=3, requests=20)).summary
    assert (most, server.connections) == (3, 3)
    assert (summary.requests, summary.completed, len(server.seen)) == (20, 20, 20)
    assert summary.e2e.p50 >= 10


def test_streams_are_stamped_chunk_by_chunk() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        assert request.document["stream"] is True
        await asyncio.sleep(0.03)
        await chunked(writer, completion_events(["a", "b", "c", "d"]), pause_s=0.02)

    with serving(answer) as server:
        result = run(plan(server, target=Target(server.url, "m"), concurrency=1, requests=3))
    summary = result.summary
    assert [record.outcome.text for record in result.records] == ["abcd"] * 3
    assert (summary.itl.count, summary.tpot.count) == (9, 3)
    assert summary.ttft.p50 >= 30
    assert summary.e2e.p50 >= 30 + 3 * 20  # the pauses of the server, so never less
    assert summary.output_tokens_per_s == pytest.approx(12 / summary.seconds)


def test_an_open_loop_charges_a_stall_to_the_requests_that_were_due_meanwhile() -> None:
    """One stall of 0.4 s on a server of one at a time; arrivals every 20 ms keep coming due behind it.

    A generator that waited for the stalled answer before it sent the next request would see one slow request.
    """
    lock = asyncio.Lock()
    first = True

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        async with lock:
            pause, first = (0.4 if first else 0.0), False
            await asyncio.sleep(pause)
        writer.write(completion("hi", 4))

    trace = tuple(Arrival(0.02 * i) for i in range(20))
    with serving(answer) as server:
        result = run(plan(server, concurrency=None, requests=None, trace=trace, seconds=0.5))
    waited = [record.ended - record.scheduled for record in result.records]
    assert len(waited) == 20
    for arrival, seconds in zip(trace, waited, strict=True):
        assert seconds >= 0.4 - arrival.at - 0.005  # each waited for the rest of the stall
    assert sum(seconds > 0.2 for seconds in waited) >= 9


def test_a_late_generator_is_charged_too() -> None:
    """Latency counts from when a request was due, not from when it was sent."""
    with serving(fine) as server:
        result = run(plan(server, concurrency=None, requests=None, trace=(Arrival(0.0), Arrival(0.01)), seconds=1.0))
    for record in result.records:
        assert record.sent >= record.scheduled
        assert record.ended > record.sent
    assert result.records[1].scheduled - result.records[0].scheduled == pytest.approx(0.01)


def test_several_processes_do_the_whole_load() -> None:
    with serving(fine) as server:
        result = run(plan(server, concurrency=4, requests=10, processes=2, prompts=tuple("abcdefghij")))
    assert result.generator.processes == 2
    assert sorted(request.document["prompt"] for request in server.seen) == list("abcdefghij")
    assert result.summary.completed == 10


def test_warm_up_is_not_counted() -> None:
    with serving(fine) as server:
        result = run(plan(server, concurrency=1, requests=3, warmup_s=0.3))
    assert result.summary.requests == 3
    assert len(result.records) == len(server.seen) >= 3


def test_failures_are_counted_by_status() -> None:
    answers = iter([429, 503, 200, 200, 400, 429])

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        status = next(answers)
        writer.write(completion("hi", 4) if status == 200 else response(status, b"{}"))

    with serving(answer) as server:
        summary = run(plan(server, concurrency=1)).summary
    assert summary.statuses == {"429": 2, "200": 2, "503": 1, "400": 1}
    assert summary.refused.count == 3


CUT = completion_events(["a", "b"])


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        (CUT[:-1], "truncated"),
        ([CUT[0], b'data: {"error": {"message": "engine died"}}\n\n'], "stream error"),
        ([b"data: {not json\n\n"], "unreadable"),
    ],
)
def test_a_stream_that_does_not_end_well_is_no_success(pieces: Sequence[bytes], status: str) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await chunked(writer, list(pieces))

    with serving(answer) as server:
        summary = run(plan(server, target=Target(server.url, "m"), requests=2)).summary
    assert summary.statuses == {status: 2}


async def test_a_connection_lost_mid_answer_is_not_retried() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
        await writer.drain()
        writer.close()

    with serving(answer) as server:
        client = Client(Origin.parse(server.url))
        with pytest.raises(TransportError) as raised:
            await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        client.close()
    assert (raised.value.kind, len(server.seen)) == ("disconnected", 1)


async def test_an_idle_connection_that_the_server_closed_is_replaced_and_counted() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 2:
            writer.transport.abort()
        else:
            writer.write(completion("hi", 4))

    with serving(answer) as server:
        client = Client(Origin.parse(server.url))
        request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        assert (await client.send(request)).status == 200
        assert (await client.send(request)).status == 200
        client.close()
    assert (client.reconnects, len(server.seen)) == (1, 3)


async def test_a_reply_that_never_ends_is_a_timeout() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    with serving(answer) as server:
        client = Client(Origin.parse(server.url), timeout_s=0.05)
        with pytest.raises(TransportError, match="timeout"):
            await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        client.close()


def test_an_absent_server_is_counted_as_unreachable() -> None:
    with serving(fine) as server:
        pass
    assert run(plan(server, requests=2)).summary.statuses == {"unreachable": 2}


def test_the_document_tells_the_load_and_keeps_the_keys_to_itself() -> None:
    with serving(fine) as server:
        target = replace(UNARY, url=server.url, api_key="key-of-ours", keys=Keys("eu-west-1", "AKID", "secret-of-ours"))
        asked = plan(server, target=target)
        text = json.dumps(document(asked, run(asked)))
    assert json.loads(text)["measured"]["completed"] == 6
    assert "-of-ours" not in text


def test_the_command_writes_json_and_exits_2_on_wrong_input(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(bench)
    output = tmp_path / "out.json"
    with serving(fine) as server:
        base = ["--model", "m", "--url", server.url, "--no-stream", "--warmup", "0", "--processes", "1"]
        done = CliRunner().invoke(app, [*base, "--concurrency", "2", "--requests", "4", "--output", str(output)])
        assert done.exit_code == 0, done.output
        assert json.loads(output.read_text())["measured"]["statuses"] == {"200": 4}
        picture = tmp_path / "curve.png"
        swept = CliRunner().invoke(app, [*base, "--sweep", "20,40", "--seconds", "0.3", "--picture", str(picture)])
        assert swept.exit_code == 0, swept.output
        assert picture.read_bytes().startswith(b"\x89PNG")
        for wrong in (["--slo", "p99:1"], ["--dialect", "grpc"], ["--body", "[]"], ["--sweep", "fast"]):
            refused = CliRunner().invoke(app, [*base, *wrong])
            assert refused.exit_code == 2, refused.output
            assert "Traceback" not in refused.output

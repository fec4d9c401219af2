"""What one streamed answer costs the generator in CPU time: this client beside aiohttp and httpx.

    python -m benchmarks.client_cost [--requests 400] [--in-flight 16]
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic, process_time
from typing import Annotated

import typer
import uvloop

from benchmarks.arms import Setup
from benchmarks.client import Client, Origin
from benchmarks.dialects import Ask
from benchmarks.framing import server_sent
from benchmarks.paced import PacedArm
from benchmarks.processes import exit_on_sigterm
from benchmarks.target import Encoder, Target

TOKENS = 64

Send = Callable[[], Awaitable[int]]
"""Sends one request and returns the number of chunks it stamped."""


async def ours(url: str, run: Callable[[Send], Awaitable[None]]) -> None:
    encoder, client = Encoder(Target(url, "m")), Client(Origin.parse(url))
    request = encoder.encode(Ask("x", TOKENS))

    async def send() -> int:
        return sum(1 for _ in server_sent((await client.send(request)).pieces))

    await run(send)
    client.close()


async def by_aiohttp(url: str, run: Callable[[Send], Awaitable[None]]) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def send() -> int:
            pieces = []
            async with session.post(f"{url}/v1/completions", json=body()) as reply:
                async for piece in reply.content.iter_any():
                    pieces.append((monotonic(), piece))  # noqa: PERF401 - stamped one by one
            return sum(1 for _ in server_sent(pieces))

        await run(send)


async def by_httpx(url: str, run: Callable[[Send], Awaitable[None]]) -> None:
    import httpx

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as session:

        async def send() -> int:
            pieces = []
            async with session.stream("POST", f"{url}/v1/completions", json=body()) as reply:
                async for piece in reply.aiter_raw():
                    pieces.append((monotonic(), piece))  # noqa: PERF401 - stamped one by one
            return sum(1 for _ in server_sent(pieces))

        await run(send)


def body() -> dict[str, object]:
    return {"model": "m", "prompt": "x", "max_tokens": TOKENS, "stream": True}


async def load(send: Send, requests: int, in_flight: int) -> None:
    """Raises RuntimeError when an answer has other than the expected number of events."""
    left = iter(range(requests))

    async def one() -> None:
        for _ in left:
            if (found := await send()) != TOKENS + 2:
                raise RuntimeError(f"{found} events instead of {TOKENS + 2}")

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one())


def main(
    requests: Annotated[int, typer.Option(min=1)] = 400, in_flight: Annotated[int, typer.Option(min=1)] = 16
) -> None:
    """CPU milliseconds per answer of 64 chunks, by client."""
    exit_on_sigterm()
    scratch = Path(tempfile.mkdtemp(prefix="hearth-client-"))
    arm = PacedArm(Setup(scratch, {}, {}, scratch))
    arm.start()
    try:
        arm.wait()
        costs = {}
        for name, client in (("ours", ours), ("aiohttp", by_aiohttp), ("httpx", by_httpx)):
            before = process_time()
            uvloop.run(client(arm.url, lambda send: load(send, requests, in_flight)))
            costs[name] = round((process_time() - before) * 1000 / requests, 3)
        print(json.dumps(costs))
    finally:
        arm.stop()


if __name__ == "__main__":
    typer.run(main)

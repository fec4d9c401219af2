"""What a shadow variant costs production: `python -m benchmarks.shadow`.

Two replicas, each a process of its own with the guard, a listener and an application that answers after five
milliseconds without using a CPU, as a model on an accelerator does. Clients ask the production replica; in turns
nothing is copied, everything is copied to a shadow that answers, and everything to one that never does. Shadow and
production share this machine's CPUs here, so the figures are an upper bound for replicas on machines of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import statistics
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Annotated

import httpx
import structlog
import typer
from starlette.types import Receive, Scope, Send

from benchmarks.ratios import order, paired
from server.dialects.identity import Identity
from server.guard.metrics import Metrics
from server.guard.middleware import Guard
from server.replicas.listener import Listener
from server.shadow.copier import Copier
from server.shadow.copies import Address, Target
from server.shadow.seal import Seal
from server.shadow.tally import Tally
from server.spec import Limits

ENDPOINT, PRODUCTION, SHADOW = "m", "AllTraffic", "Shadow"
PATH, TOKEN = "/endpoints/m/invocations", "benchmark"
MODEL_S = 0.005
HELD = 32
"""Copies that may be held: those for the shadow that hangs are waited for between two measurements."""
COPY_S = 0.5
"""After which a copy is given up."""
BODY = b'{"inputs": "' + b"x" * 1000 + b'"}'
ANSWER = b'[{"generated_text": "' + b"y" * 2000 + b'"}]'


async def model(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await asyncio.sleep(MODEL_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": ANSWER})


async def serve(variant: str, pipe: Connection) -> None:
    """A replica. Tells its port; takes addresses to copy to, () for none, until the other end closes, and answers each
    with its totals so far, once no copy for the address before is left."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    seal, identity = Seal(TOKEN, ENDPOINT), Identity(ENDPOINT, variant, variant)
    copier = Copier(seal, ENDPOINT, most=HELD)
    guard = Guard(model, identity, Limits(), Metrics.of(identity), opaque=True, copying=copier, seal=seal)
    pipe.send(await Listener().serve(guard, "127.0.0.1"))
    with contextlib.suppress(EOFError):
        while True:
            address = await asyncio.to_thread(pipe.recv)
            copier.aim(None)
            while copier.held:  # noqa: ASYNC110 - counted on other threads
                await asyncio.sleep(0.05)
            copier.aim(Target("benchmark", SHADOW, 1.0, False, COPY_S, (address,)) if address else None)
            pipe.send(copier.message()["tallies"].get("benchmark"))


def run(variant: str, pipe: Connection) -> None:
    asyncio.run(serve(variant, pipe))


def replica(variant: str) -> tuple[Connection, Address]:
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=run, args=(variant, theirs), daemon=True).start()
    return ours, ("127.0.0.1", ours.recv())


async def latencies(address: Address, clients: int, seconds: float) -> list[float]:
    """Milliseconds of every request of so many clients."""
    found: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}", trust_env=False) as asking:
            while (begun := time.perf_counter()) < end:
                answer = await asking.post(PATH, content=BODY, headers={"content-type": "application/json"})
                if answer.content != ANSWER:
                    raise RuntimeError(f"production answered {answer.status_code}")
                found.append((time.perf_counter() - begun) * 1e3)

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


class Hanging(asyncio.Protocol):
    """Takes connections and says nothing."""


async def measure(rounds: int, seconds: float, clients: int) -> None:
    (pipe, production), (_, shadow) = replica(PRODUCTION), replica(SHADOW)
    server = await asyncio.get_running_loop().create_server(Hanging, "127.0.0.1", 0)
    silent = server.sockets[0].getsockname()[:2]
    arms: Mapping[str, Address | tuple[()]] = {
        "nothing copied": (), "a shadow that answers": shadow, "a shadow that hangs": silent,
    }  # fmt: skip
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for turn in order([*arms], rounds):
        for name in turn:
            pipe.send(arms[name])
            pipe.recv()
            cut = statistics.quantiles(await latencies(production, clients, seconds), n=20)
            figures[name].append((cut[9], cut[18]))
    server.close()
    print(f"{'':24} {'p50, ms':>8} {'p95, ms':>8} {'p50 ratio':>22} {'p95 ratio':>22}")
    plain = figures["nothing copied"]
    for name, found in figures.items():
        values = [statistics.median(each) for each in zip(*found, strict=True)]
        ratios = [paired([one[part] for one in found], [one[part] for one in plain]) for part in (0, 1)]
        print(f"{name:24} {values[0]:8.2f} {values[1]:8.2f} {ratios[0]!s:>22} {ratios[1]!s:>22}")
    pipe.send(())
    counts = Tally.from_wire(pipe.recv()).counts
    print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each measurement.")] = 3.0,
    clients: Annotated[int, typer.Option(min=1)] = 4,
) -> None:
    """Measure what copying costs those who are copied."""
    asyncio.run(measure(rounds, seconds, clients))


if __name__ == "__main__":
    typer.run(main)

"""What is fuzzed: a real door, and real guards around engines that answer by rule, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import structlog
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from server.dialects.application import dialect_app
from server.dialects.engine import Answer, Engines, Generation, Invocation, Prediction, Step, Token
from server.dialects.identity import Identity
from server.dialects.images import check_image
from server.door.app import application
from server.guard.metrics import Metrics
from server.guard.middleware import Guard
from server.launch import Launch
from server.settings import load
from server.spec import Limits
from server.store.migrate import migrate
from server.store.store import Store, connect

WAKE_S = 0.3
"""How long the door waits for an endpoint that sleeps: nothing here ever wakes."""
START_S = 60.0
GUARDS = ("text", "image", "payload")


class Echo:
    """All three faces of an engine: text answers its own words, an image its size, a body itself."""

    async def generate(self, prompt: str, parameters: Generation, request_id: str) -> AsyncIterator[Step]:
        words = prompt.split()[: min(parameters.max_tokens, 20)] or [""]
        for index in range(parameters.n):
            for word in words:
                token = Token(1, word, -0.5, top=tuple((n, "a", -1.0) for n in range(parameters.logprobs or 0)))
                yield Step(index, word, (token,), "stop" if word is words[-1] else None, prompt_tokens=len(words))

    async def predict(self, images: Sequence[bytes], _parameters: Mapping[str, Any],
    _id: str) -> list[list[Prediction]]:
        return [[Prediction(str(check_image(image, 10**6)), 0.5)] for image in images]

    async def invoke(self, invocation: Invocation) -> Answer:
        return Answer(invocation.body, "application/octet-stream")


async def openai(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands where vLLM's application does: says how many keys it was given."""
    request = Request(scope, receive)
    keys = len(await request.json()) if scope["method"] == "POST" else 0
    await JSONResponse({"keys": keys})(scope, receive, send)


def _guards() -> list[ASGIApp]:
    echo, routes = Echo(), frozenset(f"/v1/{name}" for name in ("chat/completions", "completions", "embeddings",
                        "models"))
    faces = (Engines(text=echo, openai=openai, openai_routes=routes), Engines(image=echo), Engines(payload=echo))
    return [_guard(Identity("m", name, "r"), engines) for name, engines in zip(GUARDS, faces, strict=True)]


def _guard(identity: Identity, engines: Engines) -> Guard:
    limits = Limits(max_image_pixels=10**6)
    app = dialect_app(engines, identity, limits)
    return Guard(app, identity, limits, Metrics.of(identity), opaque=engines.payload is not None)


def _door(folder: Path) -> list[ASGIApp]:
    settings = load(None, {}, state_dir=folder, wake_timeout_s=WAKE_S)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    engine = connect(settings.database)
    migrate(engine)
    return [application(Launch(settings, 1, "none"), Store(engine, settings.account, settings.region))]


def _serve(make: Callable[[], list[ASGIApp]], sockets: list[socket.socket], log: Path) -> None:
    """A process's work: serves each application at its socket until it is terminated."""
    file = log.open("a", buffering=1)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(40), logger_factory=structlog.PrintLoggerFactory(file)
    )
    with contextlib.redirect_stderr(file):
        asyncio.run(_serving(make(), sockets))


async def _serving(apps: list[ASGIApp], sockets: list[socket.socket]) -> None:
    options: dict[str, Any] = {
        "http": "httptools", "ws": "none", "log_config": None, "access_log": False, "timeout_keep_alive": 3600,
        "timeout_graceful_shutdown": 2,
    }  # fmt: skip
    servers = [uvicorn.Server(uvicorn.Config(app, lifespan="auto", **options)) for app in apps]
    async with asyncio.TaskGroup() as group:
        for server, bound in zip(servers, sockets, strict=True):
            group.create_task(server.serve(sockets=[bound]))


@dataclass(frozen=True, slots=True)
class Held:
    """What a server's process holds."""

    rss_mib: float
    files: int


@dataclass(slots=True)
class Targets:
    """Where each target answers; `processes` are ours to look into, none for a Hearth that runs elsewhere."""

    addresses: dict[str, tuple[str, int]]
    processes: dict[str, BaseProcess]
    log: Path | None = None

    def held(self) -> dict[str, Held]:
        found = {}
        for name, process in self.processes.items():
            facts = psutil.Process(process.pid)
            found[name] = Held(facts.memory_info().rss / 2**20, facts.num_fds())
        return found

    def dead(self) -> list[str]:
        return [name for name, process in self.processes.items() if not process.is_alive()]


@contextlib.contextmanager
def started() -> Iterator[Targets]:
    """Door and guards, in a temporary folder, until they are no longer needed."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        door, *guards = sockets = [_listening() for _ in range(1 + len(GUARDS))]
        processes: dict[str, BaseProcess] = {
            "door": spawn.Process(target=_serve_door, args=(Path(folder), door, log), daemon=True),
            "guard": spawn.Process(target=_serve_guards, args=(guards, log), daemon=True),
        }
        addresses = dict(zip(("door", *GUARDS), (each.getsockname() for each in sockets), strict=True))
        for process in processes.values():
            process.start()
        for each in sockets:
            each.close()
        try:
            _await(addresses)
            yield Targets(addresses, processes, log)
        finally:
            for process in processes.values():
                process.terminate()
                process.join(10)
                process.kill()
            gc.collect()


def _serve_door(folder: Path, bound: socket.socket, log: Path) -> None:
    _serve(lambda: _door(folder), [bound], log)


def _serve_guards(bound: list[socket.socket], log: Path) -> None:
    _serve(_guards, bound, log)


def _listening() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no delay for TCP by name
    bound.bind(("127.0.0.1", 0))
    return bound


def _await(addresses: Mapping[str, tuple[str, int]]) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + START_S
    for address in addresses.values():
        while True:
            try:
                socket.create_connection(address, 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nothing answers at {address} within {START_S:.0f} s") from None
                time.sleep(0.05)

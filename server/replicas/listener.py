"""A replica's own HTTP server, on a thread and an event loop of its own.

The loop belongs to the engine and the requests alone: Ray Serve's health checks and the beats run on
Serve's loop, so they answer while the model loads or the request loop is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvicorn
import uvloop
from starlette.types import ASGIApp

from server.nodes import NodeIdentity, listening

Result = TypeVar("Result")

IDLE_CONNECTION_S = 3600
"""Longer than the edge keeps idle connections, so that it is always the edge that closes them."""


class Listener:
    """An event loop on a thread; `serve` opens a socket and answers with an ASGI application."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def call(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Runs `work()` on the listener's loop, awaited from another."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self.loop))

    async def serve(self, app: ASGIApp, host: str, nodes: NodeIdentity | None = None) -> int:
        """Starts to answer on a free port of `host`, which is returned; other nodes alone, where `nodes` is given."""
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, 0))
        await self.call(lambda: self._start(app, bound, nodes))
        return int(bound.getsockname()[1])

    async def _start(self, app: ASGIApp, bound: socket.socket, nodes: NodeIdentity | None) -> None:
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", access_log=False, log_config=None,
            timeout_keep_alive=IDLE_CONNECTION_S, server_header=False, date_header=False, backlog=4096,
            proxy_headers=False, ssl_context_factory=listening(nodes),
        )  # fmt: skip
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[bound]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.005)

    async def stop(self, cleanup: Callable[[], Awaitable[None]]) -> None:
        """Closes the socket, runs `cleanup` on the loop and ends the thread."""
        await self.call(lambda: self._finish(cleanup))
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def _finish(self, cleanup: Callable[[], Awaitable[None]]) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._serving, 5.0)
        await cleanup()


class _Server(uvicorn.Server):
    """A server in a thread: signals belong to the process's owner."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

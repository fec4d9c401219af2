"""A real HAProxy with small replicas and a door that say who they are."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.parse import parse_qs

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from server.edge import process as edge_process
from server.edge.process import EdgeClient
from server.edge.routes import Backend, EdgeConfig, RouteTable, Server, Timeouts
from server.nodes import NodeIdentity, listening
from server.supervisor.ray_head import free_port

Json = dict[str, Any]
PATIENCE_S = 60.0


def eventually(condition: Callable[[], bool], otherwise: Callable[[], str] = lambda: "did not happen") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.01)


class Answerer:
    """An HTTP server on a thread whose answer says what it was asked. ``?sleep=S`` waits before it answers."""

    def __init__(self, name: str, path: Path | None = None, nodes: NodeIdentity | None = None) -> None:
        self.name = name
        self.left: list[str] = []
        """Paths whose client left before the answer."""
        self.unforwarded: list[str] = []
        """Paths of requests that the edge's public side did not pass on."""
        self.started: Counter[str] = Counter()
        family = socket.AF_INET if path is None else socket.AF_UNIX
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0) if path is None else str(path))
        self.port = int(self._socket.getsockname()[1]) if path is None else 0
        config = uvicorn.Config(
            self._app, interface="asgi3", http="httptools", ws="none", lifespan="off", proxy_headers=False,
            log_config=None, access_log=False, timeout_keep_alive=3600, timeout_graceful_shutdown=1,
            ssl_context_factory=listening(nodes),
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        eventually(lambda: self._server.started)

    @property
    def server(self) -> Server:
        return Server(self.name, "127.0.0.1", self.port)

    def end(self) -> None:
        """Asks it to end; `close` waits until it has."""
        self._server.should_exit = True

    def close(self) -> None:
        self.end()
        self._thread.join(PATIENCE_S)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.started[scope["path"]] += 1
        if sleep := parse_qs(scope["query_string"].decode()).get("sleep"):
            leaving = asyncio.ensure_future(receive())
            done, _ = await asyncio.wait([leaving], timeout=float(sleep[0]))
            leaving.cancel()
            if done:
                self.left.append(scope["path"])
                return
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        if "x-forwarded-for" not in headers:
            self.unforwarded.append(scope["path"])
        query = scope["query_string"].decode("latin-1")
        said = {"me": self.name, "path": scope["path"], "length": len(body), "headers": headers,
                "target": f"{scope['path']}?{query}"}  # fmt: skip
        text = json.dumps(said).encode()
        lines = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        await send({"type": "http.response.body", "body": text})


class Client:
    """One kept-alive connection, over TCP or a unix socket."""

    def __init__(self, port: int = 0, path: Path | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        if path is not None:
            self._connection.connect = lambda: self._connect(path)  # type: ignore[method-assign]
        self.status = 0
        self.headers: dict[str, str] = {}

    def _connect(self, path: Path) -> None:
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.settimeout(PATIENCE_S)
        self._connection.sock.connect(str(path))

    def post(self, path: str, body: object = b"", headers: dict[str, str] | None = None, method: str = "POST") -> Json:
        """The answer's JSON; `status` and `headers` keep the rest."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return json.loads(self.text(path, content, headers, method))  # type: ignore[no-any-return]

    def text(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST") -> str:
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        self.status = response.status
        self.headers = {key.lower(): value for key, value in response.getheaders()}
        return response.read().decode()

    def begin(self, path: str, body: object = b"") -> None:
        """Sends a request whose answer nobody waits for; `close` gives it up."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request("POST", path, content)

    def close(self) -> None:
        self._connection.close()


class Edge:
    """A started edge, its door and as many replicas as a test asks for."""

    def __init__(self, folder: Path, timeouts: Timeouts, **more: Any) -> None:
        # Below the kernel's range for outgoing connections: one of those could take it during a restart.
        port = free_port("127.0.0.1")
        self.config = EdgeConfig(
            folder, folder / "door.sock", port=port, threads=1, timeouts=timeouts, **more
        )
        self.log = folder / "edge.log"
        self.client = EdgeClient(self.config)
        self.door = Answerer("door", self.config.door_socket)
        self.answerers = [self.door]
        self.process: Popen[bytes] = edge_process.start(self.config, self.log)
        self.internal = Client(path=self.config.internal_socket)
        self._clients = [self.internal]
        self.http = self.connection()

    def replica(self, name: str, nodes: NodeIdentity | None = None) -> Answerer:
        self.answerers.append(Answerer(name, nodes=nodes))
        return self.answerers[-1]

    def apply(self, *backends: Backend, default: str | None = None, **concurrency: int) -> str:
        return self.client.apply(RouteTable(backends, default, concurrency=concurrency))

    def restart(self) -> None:
        self.process = edge_process.start(self.config, self.log)

    def connection(self) -> Client:
        self._clients.append(Client(self.config.port))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        for answerer in self.answerers:
            answerer.end()
        for answerer in self.answerers:
            answerer.close()


@contextlib.contextmanager
def started(timeouts: Timeouts, **more: Any) -> Iterator[Edge]:
    """`more`: fields of the edge's configuration."""
    # Unix sockets' paths are short; pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="edge"))
    edge = Edge(folder, timeouts, **more)
    try:
        yield edge
    finally:
        edge.close()
        shutil.rmtree(folder)


@pytest.fixture
def edge() -> Iterator[Edge]:
    with started(Timeouts(body=2, drain=10)) as edge:
        yield edge


def variant(endpoint: str, *answerers: Answerer, name: str = "AllTraffic", weight: float = 1.0) -> Backend:
    return Backend(endpoint, name, weight, tuple(answerer.server for answerer in answerers), 64)


@pytest.fixture(scope="module")
def routed() -> Iterator[Edge]:
    """Endpoints `a` (also the default one) and `b`, each with one replica of the same name; never changed."""
    with started(Timeouts(body=2)) as edge:
        edge.apply(variant("a", edge.replica("a")), variant("b", edge.replica("b")), default="a")
        yield edge

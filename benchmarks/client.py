"""An HTTP/1.1 client that stamps every piece of a response on the monotonic clock as it leaves the socket.

One `asyncio.Protocol` per connection and httptools' parser (llhttp): no task wakes per piece and nothing is
decoded while a response is timed, so the generator takes little from a server it shares a machine with.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import cast
from urllib.parse import urlsplit

import httptools


class TransportError(Exception):
    """The connection failed before the response was complete; `kind` is the name it is counted under."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass(slots=True)
class Reply:
    """One response. `pieces` are (monotonic seconds, body bytes) as they arrived, framing removed."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = 0.0
    """Monotonic seconds at which the last byte was there."""

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a URL's server listens, and the path prefix its API lives under."""

    host: str
    port: int
    tls: bool
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Origin:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected a URL such as http://127.0.0.1:8080, got {url!r}")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def base(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, release: Callable[[Connection], None]) -> None:
        self._release = release
        self._transport: asyncio.Transport | None = None
        self._reply = Reply()
        self._waiter: asyncio.Future[Reply] | None = None
        self._now = 0.0
        self.closed = False
        self.used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of asyncio's

    def exchange(self, request: bytes) -> asyncio.Future[Reply]:
        """Send one whole request; the future ends with its reply or a TransportError."""
        assert self._transport is not None
        self._reply = Reply()
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._now = monotonic()
        if self._waiter is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("malformed", str(error))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._reply.pieces.append((self._now, body))

    def on_message_complete(self) -> None:
        waiter, self._waiter = self._waiter, None
        self._reply.ended = self._now
        reusable = self._parser.should_keep_alive()
        self.used = True
        if reusable and not self.closed:
            self._release(self)
        else:
            self.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(self._reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._waiter is not None:
            kind = "stale" if self.used and not self._reply.status else "disconnected"
            self._fail(kind, str(exc) if exc else "closed by the server")

    def _fail(self, kind: str, detail: str) -> None:
        waiter, self._waiter = self._waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(TransportError(kind, detail))

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class Client:
    """A pool of connections to one origin; the most recently used idle one is taken first."""

    def __init__(self, origin: Origin, *, timeout_s: float = 600.0) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if origin.tls else None
        self._idle: list[Connection] = []
        self.reconnects = 0
        """Requests sent again because the server had closed an idle connection before any reply."""

    async def send(self, request: bytes) -> Reply:
        """Raises TransportError."""
        try:
            return await self._once(request)
        except TransportError as error:
            if error.kind != "stale":
                raise
            self.reconnects += 1
            self.close()
            return await self._once(request)

    async def _once(self, request: bytes) -> Reply:
        connection = await self._connection()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await connection.exchange(request)
        except TimeoutError:
            connection.close()
            raise TransportError("timeout", f"no complete reply in {self._timeout_s:g} s") from None
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self._idle.append), self._origin.host, self._origin.port, ssl=self._tls
            )
        except OSError as error:
            raise TransportError("unreachable", str(error)) from None
        return connection

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

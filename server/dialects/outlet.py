"""Where an invocation's answer goes, in the form that its address wants."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Send

from server.dialects import eventstream
from server.dialects.errors import stream_failure
from server.dialects.service_model import INVOKE_STREAM, header_name
from server.errors import HearthError


class Broken(Exception):
    """An answer that has started cannot be finished; the connection is to be cut."""


_STREAM_TYPE = header_name(INVOKE_STREAM, "ContentType").lower().encode()

Headers = Sequence[tuple[bytes, bytes]]


class Outlet:
    """Sends an answer whole or in parts; `framed`: as an AWS event stream."""

    def __init__(self, send: Send, headers: Headers, *, framed: bool) -> None:
        self._send = send
        self._headers = headers
        self.framed = framed
        self.started = False
        self.ended = False

    async def whole(self, content_type: bytes, body: bytes) -> None:
        await self.start(content_type, len(body))
        await self.part(body)
        await self.end()

    async def start(self, content_type: bytes, length: int | None = None) -> None:
        """`length` in bytes, where it is known; a framed answer does not keep it."""
        headers = [*self._headers]
        if self.framed:
            headers.append((b"content-type", eventstream.CONTENT_TYPE.encode()))
            headers.append((_STREAM_TYPE, content_type))
        else:
            headers.append((b"content-type", content_type))
            if length is not None:
                headers.append((b"content-length", b"%d" % length))
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def part(self, data: bytes) -> None:
        if data:
            body = b"".join(eventstream.payload_parts(data)) if self.framed else data
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        self.ended = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, exc: HearthError, event: bytes = b"") -> None:
        """Ends an answer that has started. A framed one says why by an exception event; another one sends
        `event` and is left unfinished: raises Broken."""
        if self.framed:
            frame = stream_failure(exc)
            self.ended = True
            await self._send({"type": "http.response.body", "body": frame, "more_body": False})
            return
        await self.part(event)
        raise Broken(exc.message) from exc

"""One HTTP/1.1 request as bytes, so that all of it can be wrong, and the answer to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

Field = tuple[bytes, bytes]

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"BREW", b"get")
NAMES = (
    b"content-type", b"accept", b"authorization", b"x-amz-target", b"x-amz-date", b"x-request-id", b"x-forwarded-for",
    b"x-forwarded-proto", b"x-hearth-endpoint", b"x-hearth-through", b"x-amz-content-sha256", b"x-amz-security-token",
    b"x-amzn-sagemaker-target-variant", b"x-amzn-sagemaker-target-model", b"x-amzn-sagemaker-session-id", b"range",
    b"x-amzn-sagemaker-custom-attributes", b"x-amzn-sagemaker-accept", b"if-match", b"if-none-match", b"cookie",
    b"date",
    b"if-modified-since", b"x-amz-copy-source", b"x-amz-meta-a", b"x-amz-checksum-crc32", b"x-amz-tagging", b"expect",
    b"x-amz-decoded-content-length", b"content-md5", b"origin", b"te", b"upgrade", b"connection", b"x-amzn-query-mode",
    b"content-encoding", b"host", b"x-amz-storage-class", b"x-amz-acl", b"user-agent", b"smithy-protocol",
)  # fmt: skip
TEXTS = (
    b"", b"a", b"*/*", b"*", b",", b"%00", b"\xff\xfe", b"\x80", b"a, b, c", b"application/json", b"text/csv",
    b"Bearer a",
    b"application/x-www-form-urlencoded", b"application/cbor", b"multipart/form-data", b"../..", b"-1", b"0", b"9" * 30,
    b"9" * 5000, b"a" * 8000, b"100-continue", b"bytes=0-", b"bytes=-1", b"bytes=9-1", b"bytes=0-1,3-4", b"websocket",
    b"Bearer sagemaker-api-key-AAAA", b"AWS4-HMAC-SHA256", b"AWS a:b", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"UNSIGNED-PAYLOAD", b"20260101T000000Z", b"99999999T999999Z", b"b/k",
    b"/b/k",
    b"Tue, 24 Nov 2026 10:00:00 GMT", b"AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=", b"gzip", b"a=b&a=b",
)  # fmt: skip


UNREAD_BYTES = 64 * 1024
"""More than this may be on its way when a server refuses and closes."""


@dataclass(slots=True)
class Sent:
    """A request under construction; `family` is what it is counted as, `target` the server that gets it."""

    family: str
    target: str
    method: bytes
    path: bytes
    fields: list[Field] = field(default_factory=list)
    body: bytes = b""
    chunked: bool = False

    @property
    def head(self) -> bool:
        return self.method == b"HEAD"

    def bytes(self) -> bytes:
        framing: Field = (b"transfer-encoding", b"chunked") if self.chunked else (b"content-length",
                          b"%d" % len(self.body))
        fields = [(b"host", b"127.0.0.1"), *self.fields, framing]
        lines = b"".join(b"%b: %b\r\n" % pair for pair in fields)
        body = _chunks(self.body) if self.chunked else self.body
        return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (self.method, self.path, lines, body)


def _chunks(body: bytes) -> bytes:
    size = max(1, len(body) // 3)
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def bend(sent: Sent, random: Random) -> None:
    """Changes the request around its body; it stays one request."""
    for _ in range(random.choice((0, 0, 0, 1, 1, 3))):
        sent.fields.append((random.choice(NAMES), random.choice(TEXTS)))
    if random.random() < 0.03:
        sent.method = random.choice(METHODS)
    if random.random() < 0.05:
        at = random.randrange(len(sent.path) + 1)
        noise = random.choice((b"%00", b"%2e%2e/", b"../", b"//", b"%ff", b"%", b"\xc3\xa9", b"?", b"#", b"%2f",
                              b"a" * 3000))
        sent.path = sent.path[:at] + noise + sent.path[at:]
    if random.random() < 0.03:
        sent.body = sent.body[: random.randrange(len(sent.body) + 1)]
    if random.random() < 0.03 and sent.body:
        at = random.randrange(len(sent.body))
        sent.body = sent.body[:at] + random.randbytes(4) + sent.body[at:]
    sent.chunked = random.random() < 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class Broken(Exception):
    """The server ended the connection before its answer was whole."""


class Connection:
    """Kept alive while the server keeps it so."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, sent: Sent) -> Answer:
        """Raises Broken. A large body that the server did not wait for may cost its answer: status 0."""
        fresh = self._streams is None
        try:
            return await self._once(sent)
        except (Broken, OSError):
            await self.close()
            if len(sent.body) > UNREAD_BYTES:
                return Answer(0, b"")
            if fresh:
                raise
            return await self._once(sent)  # the server had ended an idle connection

    async def _once(self, sent: Sent) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=2**20)
        reader, writer = self._streams
        writer.write(sent.bytes())
        with contextlib.suppress(OSError):  # it may have answered before it closed
            await writer.drain()
        try:
            status, fields = await _begin(reader)
            while status == 100:
                status, fields = await _begin(reader)
            body = b"" if sent.head or status in (204, 304) else await _body(reader, fields)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError) as error:
            await self.close()
            raise Broken(f"{type(error).__name__}: {error}") from None
        if fields.get(b"connection", b"").lower() == b"close" or status == 400 or status == 413:
            await self.close()
        return Answer(status, body)

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _begin(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    pairs: Sequence[tuple[bytes, bytes, bytes]] = [line.partition(b":") for line in lines[1:] if line]
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> bytes:
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    if fields.get(b"transfer-encoding") != b"chunked":
        return await reader.read()
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)

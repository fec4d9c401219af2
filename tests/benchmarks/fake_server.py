"""A local HTTP server whose answers a test writes byte for byte."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class FakeServer:
    """`seen`: every request received. The answer writes a whole HTTP response; returning keeps the connection."""

    answer: Answer
    seen: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Request(head[0].split(" ")[1], headers, body)
                self.seen.append(request)
                await self.answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()


@contextmanager
def serving(answer: Answer) -> Iterator[FakeServer]:
    """The server, listening from a thread of its own."""
    server = FakeServer(answer)
    ready = threading.Event()
    ending: list[Callable[[], object]] = []

    async def main() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        ending.append(lambda: loop.call_soon_threadsafe(over.set))
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        listener.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield server
    finally:
        ending[0]()
        thread.join(60)


def response(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def chunked(writer: asyncio.StreamWriter, pieces: list[bytes], pause_s: float = 0.0) -> None:
    """A 200 of those pieces, each its own chunk, written with a pause between."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for piece in pieces:
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        if pause_s:
            await asyncio.sleep(pause_s)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def completion(text: str, tokens: int) -> bytes:
    """An unary answer of /v1/completions."""
    usage = {"completion_tokens": tokens, "prompt_tokens": 3}
    return response(200, json.dumps({"choices": [{"text": text}], "usage": usage}).encode())


def completion_events(texts: list[str]) -> list[bytes]:
    """The server-sent events of a streamed /v1/completions."""
    documents: list[dict[str, Any]] = [{"choices": [{"text": text}]} for text in texts]
    documents.append({"choices": [], "usage": {"completion_tokens": len(texts), "prompt_tokens": 3}})
    return [b"data: " + json.dumps(each).encode() + b"\n\n" for each in documents] + [b"data: [DONE]\n\n"]

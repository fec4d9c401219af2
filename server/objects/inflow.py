"""A request's body from the event loop to the thread that works on it, a bounded piece at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

from starlette.types import Message, Receive

from server.objects.errors import ObjectError
from server.objects.storage import BLOCK_BYTES

IDLE_S = 60.0
"""A client that sends less than `FEWEST_BYTES` in this time is let go."""

FEWEST_BYTES = 1024
_MARGIN_S = 30.0


class ClientGone(Exception):
    """The client left before its body was whole; nobody waits for an answer."""


class Inflow:
    """Iterated on a worker thread while the event loop gathers the next block."""

    def __init__(self, receive: Receive, idle_s: float = IDLE_S) -> None:
        self._receive = receive
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._pending: Future[bytes] | None = None
        self._abandoned = False
        self._turn = asyncio.Lock()

    @property
    def ended(self) -> bool:
        """Whether all of the body has arrived."""
        return self._ended

    async def gather(self, size: int = BLOCK_BYTES) -> bytes:
        """About `size` bytes or what there is until the end; empty after it. Raises RequestTimeout, ClientGone."""
        async with self._turn:
            return await self._gather(size)

    async def _gather(self, size: int) -> bytes:
        parts: list[bytes] = []
        got = 0
        deadline = time.monotonic() + self._idle_s
        while not self._ended and got < size:
            left = deadline - time.monotonic()
            try:
                message: Message = await asyncio.wait_for(self._receive(), max(0.0, left))
            except TimeoutError:
                if got >= FEWEST_BYTES:
                    break
                raise ObjectError("RequestTimeout") from None
            if message["type"] == "http.disconnect":
                if self._abandoned:
                    break
                raise ClientGone
            part = message.get("body", b"")
            got += len(part)
            parts.append(part)
            self._ended = not message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        try:
            while block := self._following().result(self._idle_s + _MARGIN_S):
                self._pending = asyncio.run_coroutine_threadsafe(self.gather(), self._loop)
                yield block
        except CancelledError:
            raise ClientGone from None

    def _following(self) -> Future[bytes]:
        if self._abandoned:
            raise ClientGone
        return self._pending or asyncio.run_coroutine_threadsafe(self.gather(), self._loop)

    def abandon(self) -> None:
        """No thread will take more; one that waits for the next block is told that there is none."""
        self._abandoned = True
        if self._pending is not None:
            self._pending.cancel()

    async def drain(self, most: int) -> bool:
        """Takes what is left of the body if it is no more than `most`; whether it was."""
        try:
            while not self._ended and most > 0:
                most -= len(await self.gather(min(most, BLOCK_BYTES)))
        except (ObjectError, ClientGone):
            return False
        return self._ended

    async def left(self) -> None:
        """Returns when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

"""An answer's parts, on their way from what makes them to whoever reads them."""

from __future__ import annotations

import asyncio
from collections import deque

from server.errors import HearthError

AHEAD = 8
"""Parts that may wait to be read; what makes them waits while there are as many."""


class Stream:
    """`Parts` that one side puts and another reads. Closing it tells the side that puts."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._changed = asyncio.Condition()
        self._ended = False
        self._error: HearthError | None = None
        self._closed = False

    async def put(self, part: bytes) -> bool:
        """Waits for room. False: nobody reads on."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._waiting) < AHEAD)
            if self._closed:
                return False
            self._waiting.append(part)
            self._changed.notify_all()
            return True

    async def end(self, error: HearthError | None = None) -> None:
        """No part comes any more; `error` is why, where it is no good reason."""
        async with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._ended or self._closed)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration

    async def aclose(self) -> None:
        async with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

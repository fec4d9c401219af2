"""Answers by key, bounded in bytes, number and age; what was asked for longest ago goes first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

OVERHEAD_BYTES = 512
"""What an entry takes beside its headers and body, roughly."""

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer with status 200. `headers` are without those of one request."""

    headers: Headers
    body: bytes

    @property
    def size(self) -> int:
        """Bytes that keeping it takes."""
        return OVERHEAD_BYTES + len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


class Store:
    """`evicted` is told why an entry went before it was replaced: `space` or `age`."""

    def __init__(
        self, *, max_bytes: int, max_entries: int, ttl_s: float, evicted: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.bytes = 0
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._evicted = evicted
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[Answer, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Answer | None:
        found = self._entries.get(key)
        if found is None:
            return None
        answer, expires = found
        if self._clock() >= expires:
            self._remove(key, "age")
            return None
        self._entries.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: Answer) -> None:
        """Keeps `answer`, unless it alone is more than fits."""
        if answer.size > self._max_bytes:
            return
        if key in self._entries:
            self._drop(key)
        while len(self._entries) >= self._max_entries or self.bytes + answer.size > self._max_bytes:
            self._remove(next(iter(self._entries)), "space")
        self._entries[key] = answer, self._clock() + self._ttl_s
        self.bytes += answer.size

    def _remove(self, key: bytes, why: str) -> None:
        self._drop(key)
        self._evicted(why)

    def _drop(self, key: bytes) -> None:
        answer, _ = self._entries.pop(key)
        self.bytes -= answer.size

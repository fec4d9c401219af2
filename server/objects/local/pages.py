"""One page of a listing: keys in UTF-8 order, those below a delimiter rolled into common prefixes.

Independent of how many keys a common prefix stands for: the walk jumps over them in the index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_STRIDES = (16, 1024)
"""Fewest and most rows fetched at a time where a delimiter may make the next ones useless."""


class Keyed(Protocol):
    @property
    def key(self) -> str: ...


Row = TypeVar("Row", bound=Keyed)

Fetch = Callable[[bytes, bytes | None, int], Sequence[Row]]
"""At most so many rows from the first key on, below the second."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    rows: tuple[Row, ...]
    prefixes: tuple[str, ...]
    last: str
    """Key or common prefix after which the next page begins; empty for an empty page."""
    truncated: bool


def after(marker: str, prefix: str, delimiter: str) -> bytes:
    """Where a listing goes on after `marker`; after all that a common prefix stands for if it is one."""
    raw = marker.encode()
    if delimiter and marker.startswith(prefix) and _common(marker, prefix, delimiter) == marker:
        return end_of(raw) or raw
    return raw + b"\0"


def end_of(prefix: bytes) -> bytes | None:
    """The least key beyond all that begin with `prefix`. UTF-8 has no byte 255, so the last one can be raised."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None


def page(fetch: Fetch[Row], prefix: str, delimiter: str, start: bytes, limit: int) -> Page[Row]:
    """The first `limit` entries from `start` on."""
    at, end = max(start, prefix.encode()), end_of(prefix.encode())
    rows: list[Row] = []
    prefixes: list[str] = []
    last = ""
    if limit <= 0:
        return Page((), (), "", False)
    stride = _STRIDES[0] if delimiter else limit + 1
    while True:
        fetched = fetch(at, end, stride)
        rolled = ""
        for row in fetched:
            if rolled and row.key.startswith(rolled):
                continue
            if len(rows) + len(prefixes) == limit:
                return Page(tuple(rows), tuple(prefixes), last, True)
            rolled = _common(row.key, prefix, delimiter)
            last = rolled or row.key
            if rolled:
                prefixes.append(rolled)
            else:
                rows.append(row)
        if len(fetched) < stride:
            return Page(tuple(rows), tuple(prefixes), last, False)
        if delimiter:
            stride = _STRIDES[0] if rolled else min(2 * stride, _STRIDES[1])
        at = (end_of(rolled.encode()) or b"") if rolled else fetched[-1].key.encode() + b"\0"


def _common(key: str, prefix: str, delimiter: str) -> str:
    """The common prefix that stands for `key`; empty when it stands for itself."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: at + len(delimiter)] if at >= 0 else ""

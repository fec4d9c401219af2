"""Replicas' logs as CloudWatch Logs has them: a group for an endpoint, a stream for a replica, an event for a line.

A group is called `/aws/sagemaker/Endpoints/ENDPOINT`, a stream `VARIANT/REPLICA`; the files are those of
`server.replicas.output`. A line's time is the one that it carries, else that of the line before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

PREFIX = "/aws/sagemaker/Endpoints/"
MAX_LINE_BYTES = 256 * 1024
"""CloudWatch's bound on one event; the rest of a longer line is left out."""
HEAD_BYTES = 64 * 1024
"""How far into a file the first time is looked for."""

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_TIME = re.compile(rb'"(?:timestamp|time)"\s*:\s*"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))"')


@dataclass(frozen=True, slots=True)
class Event:
    """`timestamp` in milliseconds since 1970; `begin` and `end` are the line's place in its file, in bytes."""

    stream: str
    timestamp: int
    message: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Stream:
    """One replica's log. Times in milliseconds since 1970."""

    name: str
    file: Path
    first: int
    last: int
    size: int


class LogFiles:
    """The logs below one folder; None: there are none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / "endpoints" if folder is not None else None

    def groups(self) -> list[str]:
        """Names of all groups, sorted."""
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(PREFIX + path.name for path in self._folder.iterdir() if path.is_dir())

    def streams(self, group: str) -> list[Stream] | None:
        """A group's streams by name; None: no such group."""
        endpoint = group.removeprefix(PREFIX)
        if self._folder is None or not group.startswith(PREFIX) or not _NAME.fullmatch(endpoint):
            return None
        folder = self._folder / endpoint
        if not folder.is_dir():
            return None
        return sorted((found for file in folder.glob("*.log") if (found := _stream(file))), key=lambda s: s.name)


def _stream(file: Path) -> Stream | None:
    variant, _, replica = file.stem.rpartition("-")
    try:
        facts = file.stat()
    except FileNotFoundError:  # an older replica's log that was just removed
        return None
    last = round(facts.st_mtime * 1e3)
    return Stream(f"{variant}/{replica}", file, _first_time(file) or last, last, facts.st_size)


def forward(stream: Stream, begin: int) -> Iterator[Event]:
    """The events from byte `begin` on, which is where a line begins."""
    with stream.file.open("rb") as handle:
        moment = _time_before(stream, begin)
        handle.seek(begin)
        for line in _lines(handle):
            moment = time_of(line) or moment
            yield _event(stream, line, begin, moment)
            begin += len(line)


def backward(stream: Stream, end: int, span: int) -> list[Event]:
    """The events of the whole lines in the `span` bytes before byte `end`, oldest first."""
    begin = max(0, end - span)
    with stream.file.open("rb") as handle:
        handle.seek(begin)
        if begin > 0:
            begin += len(handle.readline())
    return list(_until(forward(stream, begin), end))


def _until(events: Iterator[Event], end: int) -> Iterator[Event]:
    for event in events:
        if event.end > end:
            return
        yield event


def _lines(handle: object) -> Iterator[bytes]:
    """Whole lines; one that is being written is left for later."""
    for line in handle:  # type: ignore[attr-defined]
        if line.endswith(b"\n"):
            yield line


def _event(stream: Stream, line: bytes, begin: int, moment: int) -> Event:
    text = line[:MAX_LINE_BYTES].rstrip(b"\r\n").decode("utf-8", errors="replace")
    return Event(stream.name, moment, text, begin, begin + len(line))


def time_of(line: bytes) -> int | None:
    """The time that a line carries, in milliseconds since 1970."""
    found = _TIME.search(line)
    return round(datetime.fromisoformat(found[1].decode()).timestamp() * 1e3) if found else None


def _first_time(file: Path) -> int | None:
    try:
        with file.open("rb") as handle:
            return time_of(handle.read(HEAD_BYTES))
    except FileNotFoundError:
        return None


def _time_before(stream: Stream, begin: int) -> int:
    """The last time that is carried in the stretch before `begin`."""
    with stream.file.open("rb") as handle:
        handle.seek(max(0, begin - HEAD_BYTES))
        found = _TIME.findall(handle.read(min(begin, HEAD_BYTES)))
    return round(datetime.fromisoformat(found[-1].decode()).timestamp() * 1e3) if found else stream.first

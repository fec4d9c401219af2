"""Splitting a timed response body into the events of its stream framing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from botocore.eventstream import EventStreamBuffer, ParserError


class StreamFormatError(ValueError):
    """The bytes are not what the content type says."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `at`: monotonic seconds at which its last byte arrived; `kind` is empty for plain data."""

    at: float
    data: bytes
    kind: str = ""


def server_sent(pieces: Iterable[tuple[float, bytes]]) -> Iterator[Event]:
    """Server-sent events; comments and fields other than `event` and `data` are skipped.

    A last event without its blank line is yielded too, since servers do end streams that way.
    """
    buffer, at = b"", 0.0
    for at, piece in pieces:
        buffer += piece
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n")
        *blocks, buffer = buffer.split(b"\n\n")
        for block in blocks:
            yield from _block(at, block)
    yield from _block(at, buffer)


def _block(at: float, block: bytes) -> Iterator[Event]:
    data: list[bytes] = []
    kind = ""
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            kind = line[6:].strip().decode()
    if data:
        yield Event(at, b"\n".join(data), kind)


def aws_events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[Event]:
    """Events of `application/vnd.amazon.eventstream`; `kind` is the event or exception type.

    Raises StreamFormatError on a wrong checksum or a frame cut short.
    """
    buffer = EventStreamBuffer()
    received = consumed = 0
    for at, piece in pieces:
        received += len(piece)
        buffer.add_data(piece)
        try:
            for message in buffer:
                consumed += message.prelude.total_length
                headers = message.headers
                kind = headers.get(":event-type") or headers.get(":exception-type") or ""
                yield Event(at, message.payload, kind)
        except ParserError as error:
            raise StreamFormatError(f"not an AWS event stream: {error}") from None
    if received != consumed:
        raise StreamFormatError(f"event stream ends inside a frame ({received - consumed} bytes left)")

"""Frames of `application/vnd.amazon.eventstream`, as AWS SDKs read them.

A frame is: total length, headers length, CRC-32 of these two (all unsigned 32-bit, big endian), headers,
payload, CRC-32 of all that. A header is: name length (1 byte), name, 7 for a string, value length
(2 bytes), value.
"""

from __future__ import annotations

import json
import struct
from binascii import crc32
from collections.abc import Iterator, Mapping

from botocore.eventstream import EventStreamBuffer, ParserError

CONTENT_TYPE = "application/vnd.amazon.eventstream"

MAX_PART = 1024 * 1024
"""Bytes in one PayloadPart; botocore refuses frames above 24 MiB."""

_STRING = 7
_PRELUDE = struct.Struct("!II")
_WORD = struct.Struct("!I")


def encode_headers(headers: Mapping[str, str]) -> bytes:
    encoded = bytearray()
    for name, value in headers.items():
        name_bytes, value_bytes = name.encode(), value.encode()
        encoded += struct.pack("!B", len(name_bytes)) + name_bytes
        encoded += struct.pack("!BH", _STRING, len(value_bytes)) + value_bytes
    return bytes(encoded)


def frame(headers: bytes, payload: bytes) -> bytes:
    """One message; `headers` as `encode_headers` made them."""
    prelude = _PRELUDE.pack(len(headers) + len(payload) + 16, len(headers))
    prelude_crc = crc32(prelude)
    body = b"".join((_WORD.pack(prelude_crc), headers, payload))
    return b"".join((prelude, body, _WORD.pack(crc32(body, prelude_crc))))


_PART = encode_headers(
    {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
)


def payload_parts(data: bytes) -> Iterator[bytes]:
    """`data` as frames of PayloadPart events; none for no data."""
    for start in range(0, len(data), MAX_PART):
        yield frame(_PART, data[start : start + MAX_PART])


def exception(kind: str, fields: Mapping[str, str]) -> bytes:
    """An exception event, e.g. ``ModelStreamError`` with Message and ErrorCode; clients raise it."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(encode_headers(headers), json.dumps(fields).encode())


def events(stream: bytes) -> Iterator[tuple[bool, bytes]]:
    """Of each event, whether it is an exception, and what it carries. Raises ValueError for what is no event stream."""
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    try:
        for event in buffer:
            yield event.headers.get(":message-type") != "event", event.payload
    except ParserError as error:
        raise ValueError(f"no event stream: {error}") from error

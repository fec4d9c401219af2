"""Messages between a replica and the process that runs a customer's code: a JSON header and bytes, never pickles.

The worker loads this file by its path, so it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

PREFIX = struct.Struct("!IQ")
"""Lengths of header and body, in bytes."""
MAX_HEADER_BYTES = 256 * 1024
ENOUGH = "enough"
"""In the header of a message in the middle of an answer: the rest of it is not wanted."""


class BadMessage(Exception):
    """What came is no message, or one larger than allowed."""


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    if len(encoded) > MAX_HEADER_BYTES:
        raise BadMessage(f"a header of {len(encoded)} bytes; at most {MAX_HEADER_BYTES} are allowed")
    return PREFIX.pack(len(encoded), len(body)) + encoded + body


def lengths(prefix: bytes, max_body_bytes: int) -> tuple[int, int]:
    """Header and body length. Raises BadMessage for more than is allowed."""
    header, body = PREFIX.unpack(prefix)
    if header > MAX_HEADER_BYTES or body > max_body_bytes:
        raise BadMessage(f"a message of {header} and {body} bytes; at most {max_body_bytes} are allowed")
    return header, body


def parse(header: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(header)
    except ValueError:
        raise BadMessage("a header that is not JSON") from None
    if not isinstance(parsed, dict):
        raise BadMessage("a header that is no JSON object")
    return parsed


def receive(channel: socket.socket, max_body_bytes: int = 2**40) -> tuple[dict[str, Any], bytes]:
    """The next message of a blocking socket. Raises EOFError when the other side has closed it."""
    header, body = lengths(_exactly(channel, PREFIX.size), max_body_bytes)
    return parse(_exactly(channel, header)), _exactly(channel, body)


def _exactly(channel: socket.socket, count: int) -> bytes:
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        got = channel.recv_into(view)
        if got == 0:
            raise EOFError
        view = view[got:]
    return bytes(buffer)

"""NextToken: where the page after this one begins, for one operation in one order."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from server.errors import BadRequest
from server.store.listing import Position

_CHECK = 8
"""Bytes of the checksum that tells a damaged token from ours."""


def encode(position: Position, purpose: str) -> str:
    """A token that only `purpose` (the operation, its order and its filters) takes back."""
    value = position.value
    wire = [value.timestamp(), position.id, 1] if isinstance(value, datetime) else [value, position.id, 0]
    body = json.dumps(wire, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_checksum(body, purpose) + body).decode()


def decode(token: str, purpose: str) -> Position:
    """Raises BadRequest for a token that was not made for `purpose`."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        check, body = raw[:_CHECK], raw[_CHECK:]
        if check != _checksum(body, purpose):
            raise ValueError("checksum")
        value, number, is_moment = json.loads(body)
    except (ValueError, binascii.Error, UnicodeError):
        raise BadRequest(
            "Invalid NextToken: use the one that the previous page of the same request returned.", field="nextToken"
        ) from None
    return Position(_moment(value) if is_moment else value, number)


def purpose(name: str, *parts: Any) -> str:
    return json.dumps([name, *parts], sort_keys=True, default=str)


def _checksum(body: bytes, purpose: str) -> bytes:
    return hashlib.sha256(purpose.encode() + b"\0" + body).digest()[:_CHECK]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

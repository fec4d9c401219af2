"""What the guard has to do with shadow variants: it makes copies of requests, and knows a copy when it gets one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.types import Scope

from server.shadow.copies import TOOK, Answered, Copy, Headers, Target
from server.shadow.seal import HEADER, Seal, Sealed

if TYPE_CHECKING:
    from server.guard.exchange import Exchange

_LEFT_OUT = frozenset(
    (
        b"authorization", b"connection", b"content-length", b"cookie", b"expect", b"forwarded", b"host", b"keep-alive",
        b"te", b"trailer", b"transfer-encoding", b"upgrade", b"x-amz-content-sha256", b"x-amz-date",
        b"x-amz-security-token", b"x-amzn-sagemaker-target-variant", b"x-forwarded-for", b"x-forwarded-proto",
    )
)  # fmt: skip
"""Headers that are the client's or the connection's own, and no part of what the model is asked."""


def copy(
    target: Target, exchange: Exchange, body: bytes, headers: Headers, answer: bytes | None, seconds: float, beside: int
) -> Copy:
    """The request of `exchange` for a shadow. `headers` and `answer` (None: too long) are production's; `beside`: other
    requests that are in flight."""
    scope = exchange.scope
    return Copy(
        target=target, request_id=exchange.request_id, path=_address(scope), body=body,
        headers=tuple(pair for pair in scope["headers"] if pair[0] not in _LEFT_OUT and not _own(pair[0])),
        answer=Answered(exchange.status, headers, answer, seconds), at=time.time(), beside=beside + 1,
    )  # fmt: skip


def sealed(seal: Seal | None, exchange: Exchange, variant: str) -> Sealed | None:
    """None: the request is a client's. Raises Unauthenticated for one that says it is a copy, and is none."""
    if seal is None:
        return None
    scope = exchange.scope
    for name, value in scope["headers"]:
        if name == HEADER:
            return seal.open(value.decode("latin-1"), variant, exchange.request_id, _address(scope))
    return None


def took(seconds: float) -> tuple[bytes, bytes]:
    """A header of the answer to a copy: how long the model took until the answer began."""
    return TOOK, f"{seconds:.6f}".encode()


def _own(name: bytes) -> bool:
    return bool(name.startswith(b"x-hearth-"))


def _address(scope: Scope) -> str:
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    return str((path + b"?" + query if query else path).decode("latin-1"))

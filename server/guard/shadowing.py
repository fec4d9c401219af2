"""What the guard has to do with shadow variants: it keeps what a sampled request was and how it was answered, and
knows a copy when it gets one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.types import Message, Scope

from server.dialects.paths import OPENAI_PATHS, Kind, Route
from server.shadow.copies import ANSWER_BYTES, TOOK, Answered, Copy, Copying, Headers, Target
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
_ASKED = (Kind.CONTAINER, Kind.RUNTIME, Kind.STREAM)


class Kept:
    """One sampled request's body and answer, by reference: what the server had in memory anyway."""

    def __init__(self, target: Target, body: bytes) -> None:
        self._target = target
        self._body = body
        self._headers: Headers = ()
        self._parts: list[bytes] | None = []
        self._size = 0

    def note(self, message: Message) -> None:
        """One message of the answer, on its way out."""
        if message["type"] == "http.response.start":
            self._headers = tuple(message.get("headers", ()))
        elif self._parts is not None and (part := message.get("body", b"")):
            self._size += len(part)
            self._parts.append(part)
            if self._size > ANSWER_BYTES:
                self._parts = None

    def copy(self, exchange: Exchange, seconds: float, beside: int) -> Copy:
        """`beside`: other requests that are in flight."""
        body = None if self._parts is None else b"".join(self._parts)
        scope = exchange.scope
        return Copy(
            target=self._target, request_id=exchange.request_id, path=_address(scope), body=self._body,
            headers=tuple(pair for pair in scope["headers"] if pair[0] not in _LEFT_OUT and not _own(pair[0])),
            answer=Answered(exchange.status, self._headers, body, seconds), at=time.time(), beside=beside + 1,
        )  # fmt: skip


def sampled(copying: Copying | None, exchange: Exchange, body: bytes) -> Kept | None:
    """Whether the request is to be copied, and then what is kept for that. A copy is not copied again."""
    if copying is None or exchange.sealed is not None or not _asks(exchange.route, exchange.scope["method"]):
        return None
    target = copying.draw()
    return None if target is None else Kept(target, body)


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


def _asks(route: Route, method: str) -> bool:
    if method != "POST":
        return False
    return route.kind in _ASKED or (route.kind is Kind.OPENAI and route.path in OPENAI_PATHS)


def _own(name: bytes) -> bool:
    return bool(name.startswith(b"x-hearth-"))


def _address(scope: Scope) -> str:
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    return str((path + b"?" + query if query else path).decode("latin-1"))

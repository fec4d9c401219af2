"""Sampled requests: their bodies and answers, kept by reference while they pass, for a shadow variant and capture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.types import Message

from server.capture.capturing import Capturing, Held
from server.capture.event import Event
from server.dialects.paths import OPENAI_PATHS, Kind, Route
from server.guard.shadowing import copy
from server.shadow.copies import ANSWER_BYTES, Copying, Headers, Target

if TYPE_CHECKING:
    from server.guard.exchange import Exchange

_ASKED = (Kind.CONTAINER, Kind.RUNTIME, Kind.STREAM)


class Kept:
    """One request. `target`: the shadow that it is copied to; `held`: what is charged for its capture."""

    def __init__(self, body: bytes, target: Target | None, held: Held | None) -> None:
        self._body = body
        self._target = target
        self._held = held if held is not None and held.hold(len(body)) else None
        self._headers: Headers = ()
        self._parts: list[bytes] = []
        self._size = 0

    def note(self, message: Message) -> None:
        """One message of the answer, on its way out."""
        if message["type"] == "http.response.start":
            self._headers = tuple(message.get("headers", ()))
            return
        part = message.get("body", b"")
        self._size += len(part)
        if self._held is not None and self._held.capture.output and not self._held.hold(len(part)):
            self._held = None
        if part and (self._captures_answer or (self._target is not None and self._size <= ANSWER_BYTES)):
            self._parts.append(part)
        elif part:
            self._parts.clear()

    @property
    def _captures_answer(self) -> bool:
        return self._held is not None and self._held.capture.output

    def end(self, exchange: Exchange, copying: Copying | None, seconds: float, beside: int) -> None:
        """Hands the request on. `seconds` of the model; `beside`: other requests that are in flight."""
        whole = exchange.complete and exchange.cut is None
        if self._held is not None:
            if whole and 200 <= exchange.status < 300:
                self._held.offer(self._event(exchange, self._held))
            else:
                self._held.drop("unfinished")
        if self._target is not None and copying is not None and whole:
            answer = b"".join(self._parts) if self._size <= ANSWER_BYTES else None
            copying.offer(copy(self._target, exchange, self._body, self._headers, answer, seconds, beside))

    def _event(self, exchange: Exchange, held: Held) -> Event:
        return Event(
            capture=held.capture, request_id=exchange.request_id, at=time.time(), headers=exchange.scope["headers"],
            body=self._body, answer_headers=self._headers, answer=self._parts, size=held.size,
        )  # fmt: skip


def kept(copying: Copying | None, capturing: Capturing | None, exchange: Exchange, body: bytes) -> Kept | None:
    """What is kept of the request, where it is sampled. A copy is not copied again; it is captured, as the answer of
    the shadow that it came to."""
    if not _asks(exchange.route, exchange.scope["method"]):
        return None
    target = None if copying is None or exchange.sealed is not None else copying.draw()
    held = None if capturing is None else capturing.sample()
    return None if target is None and held is None else Kept(body, target, held)


def _asks(route: Route, method: str) -> bool:
    if method != "POST":
        return False
    return route.kind in _ASKED or (route.kind is Kind.OPENAI and route.path in OPENAI_PATHS)

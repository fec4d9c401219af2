"""An answer on its way out, kept by reference until it is known whether it may be kept for others."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import Message

from server.dialects.call import AMZN_REQUEST_ID
from server.guard.caching.store import Answer

_ENDED_EARLY = re.compile(rb'"finish_reason":\s*"(?:abort|error)"')
_OF_THE_REQUEST = frozenset((b"x-request-id", b"date"))
_STREAM = b"text/event-stream"


class Recording:
    """`whole` is called with the answer when its last part is about to go out; with None for one that is not kept:
    no 200, a stream, more than `max_bytes`, or one that the engine broke off."""

    def __init__(self, max_bytes: int, whole: Callable[[Answer | None], None]) -> None:
        self._max_bytes = max_bytes
        self._whole = whole
        self._headers: list[tuple[bytes, bytes]] | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def note(self, message: Message) -> None:
        """One message of the answer."""
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if message["status"] == 200 and not dict(headers).get(b"content-type", b"").startswith(_STREAM):
                self._headers = [pair for pair in headers if pair[0] not in _OF_THE_REQUEST]
            return
        if self._headers is not None and (part := message.get("body", b"")):
            self._size += len(part)
            self._parts.append(part)
            if self._size > self._max_bytes:
                self._headers, self._parts = None, []
        if not message.get("more_body", False):
            self._whole(self._answer())

    def _answer(self) -> Answer | None:
        if self._headers is None:
            return None
        body = b"".join(self._parts)
        return None if _ENDED_EARLY.search(body) else Answer(tuple(self._headers), body)


def headers_for(answer: Answer, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of a kept answer as the answer to another request."""
    own = (AMZN_REQUEST_ID, request_id.encode("latin-1"))
    return [own if name == AMZN_REQUEST_ID else (name, value) for name, value in answer.headers]

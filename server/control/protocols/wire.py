"""A protocol: how a request's bytes become a document, and a document or a failure becomes bytes.

In documents a timestamp is seconds since 1970 and a blob is bytes, whatever the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from server.control.failures import Failure
from server.control.reply import Reply
from server.control.service import Service


class Wire(Protocol):
    def parse(self, service: Service, operation: str, body: bytes) -> Mapping[str, Any]:
        """Raises Unreadable."""
        ...

    def answer(self, service: Service, operation: str, document: Mapping[str, Any], request_id: str) -> Reply:
        """`document` has passed the projection onto the operation's output shape."""
        ...

    def failure(self, service: Service, failed: Failure, request_id: str) -> Reply: ...

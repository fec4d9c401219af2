"""Smithy's RPC v2 CBOR: `POST /service/PREFIX/operation/NAME`, one CBOR map each way.

https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import cbor2

from server.control.failures import Failure
from server.control.reply import Reply
from server.control.service import Service
from server.errors import Unreadable

MAX_DEPTH = 64


class Cbor:
    def parse(self, service: Service, operation: str, body: bytes) -> Mapping[str, Any]:
        """An empty body is an empty map."""
        try:
            found = _Plain(len(body)).of(cbor2.loads(body), 0) if body else {}
        except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError):
            raise Unreadable("The body is not CBOR.") from None
        if not isinstance(found, dict):
            raise Unreadable("The body must be a CBOR map.")
        return found

    def answer(self, service: Service, operation: str, document: Mapping[str, Any], request_id: str) -> Reply:
        shape = service.output(operation)
        return _reply(200, {} if shape is None else _tagged(shape, document), request_id, {})

    def failure(self, service: Service, failed: Failure, request_id: str) -> Reply:
        headers = {"x-amzn-ErrorType": failed.code}
        if service.query_compatible:
            headers["x-amzn-query-error"] = f"{failed.query_code};{'Sender' if failed.status < 500 else 'Receiver'}"
        return _reply(failed.status, {"__type": failed.code, "message": failed.message}, request_id, headers)


def _reply(status: int, body: Mapping[str, Any], request_id: str, headers: Mapping[str, str]) -> Reply:
    named = {"x-amzn-RequestId": request_id, "content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
    return Reply(status, cbor2.dumps(body), {**named, **headers})


class _Plain:
    """Plain values out of decoded ones; a moment becomes seconds since 1970.

    CBOR's tags can say one value in many places, and such a value inside another, so that a few bytes mean
    billions of values: there may be no more of them, nor bytes of text, than `most`, the body's length.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    def of(self, value: Any, depth: int) -> Any:
        """Raises ValueError."""
        self._left -= len(value) if isinstance(value, str | bytes) else 1
        if depth > MAX_DEPTH or self._left < 0:
            raise ValueError("nested too deeply, or values said more than once")
        if isinstance(value, Mapping):
            return {self._key(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if value is None or isinstance(value, str | bytes | bool | float):
            return value
        if isinstance(value, int) and value.bit_length() <= 64:
            return value
        raise ValueError(type(value).__name__)

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise ValueError("keys are text")
        self._left -= len(key)
        return key


def _tagged(shape: Any, value: Any) -> Any:
    """`value` with its timestamps as CBOR's tag 1 (seconds since 1970)."""
    if shape.type_name == "structure":
        return {name: _tagged(shape.members[name], item) for name, item in value.items()}
    if shape.type_name == "list":
        return [_tagged(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: _tagged(shape.value, item) for key, item in value.items()}
    return cbor2.CBORTag(1, float(value)) if shape.type_name == "timestamp" else value


CBOR = Cbor()

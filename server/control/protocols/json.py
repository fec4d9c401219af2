"""AWS JSON 1.0 and 1.1: the operation in X-Amz-Target, one JSON object each way."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from server.control.failures import Failure
from server.control.reply import Reply
from server.control.service import Service
from server.dialects.documents import deeper_than
from server.errors import Unreadable

MAX_DEPTH = 64


class Json:
    def parse(self, service: Service, operation: str, body: bytes) -> Mapping[str, Any]:
        """An empty body is an empty object."""
        if deeper_than(body, MAX_DEPTH):
            raise Unreadable(f"The body is nested deeper than {MAX_DEPTH} levels.")
        try:
            found = json.loads(body.decode() or "{}", parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Unreadable("The body is not JSON.") from None
        if not isinstance(found, dict):
            raise Unreadable("The body must be a JSON object.")
        return found

    def answer(self, service: Service, operation: str, document: Mapping[str, Any], request_id: str) -> Reply:
        return _reply(service, 200, document, request_id, {})

    def failure(self, service: Service, failed: Failure, request_id: str) -> Reply:
        headers = {"x-amzn-ErrorType": failed.code}
        if service.query_compatible:
            headers["x-amzn-query-error"] = f"{failed.query_code};{'Sender' if failed.status < 500 else 'Receiver'}"
        body = {"__type": failed.code, "message": failed.message}
        return _reply(service, failed.status, body, request_id, headers)


def _reply(
    service: Service, status: int, body: Mapping[str, Any], request_id: str, headers: Mapping[str, str]
) -> Reply:
    kind = f"application/x-amz-json-{service.json_version}"
    text = json.dumps(body, ensure_ascii=False, default=_blob).encode() if body else b""
    return Reply(status, text, {"x-amzn-RequestId": request_id, "content-type": kind, **headers})


def _blob(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def _no_constant(text: str) -> Any:
    raise ValueError(text)


JSON = Json()

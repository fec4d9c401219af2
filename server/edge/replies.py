"""What HAProxy itself answers: JSON that botocore and the OpenAI client both turn into their own exceptions.

Bytes that are no HTTP at all never reach these: HAProxy closes such a connection with a fixed page of its own.
"""

from __future__ import annotations

import json

_ERRORS = {
    400: ("ValidationError", "bad_request", "The request is not valid HTTP, or its headers are too large."),
    408: ("RequestTimeout", "request_timeout", "The request did not arrive in time."),
    500: ("InternalFailure", "internal_error", "The edge could not handle the request."),
    502: ("ServiceUnavailable", "service_unavailable", "The replica broke off before it answered. Try again."),
    503: ("ServiceUnavailable", "service_unavailable", "No replica can answer at this moment. Try again."),
    504: ("ServiceUnavailable", "service_unavailable", "The replica did not answer in time. Try again."),
}


_DOOR_AWAY = ("ServiceUnavailable", "service_unavailable", "Hearth is starting, or starting anew. Try again.")


def error_lines() -> str:
    return "\n".join(_error(status, *texts) for status, texts in _ERRORS.items())


def door_away() -> str:
    """What is said in place of "no replica can answer" where it is the door that cannot."""
    return _error(503, *_DOOR_AWAY)


def throttled() -> str:
    """The rest of a rule that refuses a request because its endpoint has as many as it may."""
    text = "The endpoint has as many concurrent requests as its MaxConcurrency allows. Try again."
    body = _body("rate_limit_error", 429, text)
    return f"return status 429 content-type application/json hdr Retry-After 1 {_headers('ThrottlingException')} {body}"


def _error(status: int, code: str, kind: str, message: str) -> str:
    retry = " hdr Retry-After 1" if status in (502, 503, 504) else ""
    # HAProxy itself says 503 only when nothing was sent to a replica: the door may wait and try again.
    unsent = " hdr x-hearth-no-server 1" if status == 503 else ""
    body = _body(kind, status, message)
    return f"  http-error status {status} content-type application/json {_headers(code)}{retry}{unsent} {body}"


def _headers(code: str) -> str:
    return f"hdr x-amzn-ErrorType {code} hdr x-amzn-RequestId %[var(txn.request)]"


def _body(kind: str, status: int, message: str) -> str:
    inner = {"message": message, "type": kind, "code": status}
    return f"lf-string '{json.dumps({'message': message, 'Message': message, 'error': inner})}'"

"""SageMaker's AWS JSON 1.1: one request to the operation its X-Amz-Target names, one answer or error back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog

from server.control import service, shapes
from server.control.operations import Context
from server.control.projection import answer
from server.control.reply import Reply
from server.control.resources import built
from server.errors import (
    BadRequest,
    BodyTooLarge,
    Conflict,
    Forbidden,
    HearthError,
    InUse,
    LimitExceeded,
    NotFound,
    RequestTimeout,
    Throttled,
    UnknownOperation,
    Unreadable,
)

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/x-amz-json-1.1"


def call(context: Context, target: str, body: bytes) -> Reply:
    """Answers one call. Whatever goes wrong becomes an error that the client's SDK can read."""
    name = target.removeprefix(f"{service.TARGET_PREFIX}.")
    try:
        return _reply(200, _answer(context, target, name, body), context)
    except HearthError as error:
        return failure(error, name, context)
    except Exception:
        log.exception("operation failed", operation=name, request_id=context.request_id)
        return failure(HearthError("Something went wrong inside Hearth; the door's log has it."), name, context)


def _answer(context: Context, target: str, name: str, body: bytes) -> Mapping[str, Any]:
    if target != f"{service.TARGET_PREFIX}.{name}" or name not in service.OPERATIONS:
        raise UnknownOperation(f"{target!r} names no operation of SageMaker's API.")
    model = service.operation(name)
    request = shapes.read(model.input_shape, parse(body))
    function = built().get(name)
    if function is None:
        raise UnknownOperation(f"The operation {name} is not built in Hearth; docs/sagemaker-operations.md lists all.")
    return answer(model.output_shape, function(context, request))


def parse(body: bytes) -> Mapping[str, Any]:
    """The body's JSON object; an empty body is an empty one. Raises Unreadable."""
    try:
        found = json.loads(body or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Unreadable("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise Unreadable("The body must be a JSON object.")
    return found


def failure(error: HearthError, name: str, context: Context) -> Reply:
    """`error` as AWS JSON 1.1 has it."""
    code = code_of(error, name)
    status = 500 if code == "InternalFailure" else 413 if isinstance(error, BodyTooLarge) else 400
    return _reply(status, {"__type": code, "message": error.message}, context, {"x-amzn-ErrorType": code})


def code_of(error: HearthError, name: str) -> str:
    """The code that the service model lists for what happened; where it lists none, ValidationException."""
    legal = service.errors(name) if name in service.OPERATIONS else frozenset()
    for kind, codes in _CODES:
        if isinstance(error, kind):
            return next((code for code in codes if code in legal), codes[-1])
    return "InternalFailure"


_CODES: tuple[tuple[type[HearthError], tuple[str, ...]], ...] = (
    (UnknownOperation, ("UnknownOperationException",)),
    (Unreadable, ("SerializationException",)),
    (BodyTooLarge, ("RequestEntityTooLargeException",)),
    (RequestTimeout, ("RequestTimeoutException",)),
    (Throttled, ("ThrottlingException",)),
    (Forbidden, ("AccessDeniedException",)),
    (NotFound, ("ResourceNotFound", "ValidationException")),
    (InUse, ("ConflictException", "ResourceInUse", "ValidationException")),
    (Conflict, ("ResourceInUse", "ConflictException", "ValidationException")),
    (LimitExceeded, ("ResourceLimitExceeded", "ValidationException")),
    (BadRequest, ("ValidationException",)),
)
"""Codes for an error, the first that is legal for the operation; the last one where none is."""


def _reply(status: int, body: Mapping[str, Any], context: Context, headers: Mapping[str, str] | None = None) -> Reply:
    named = {"x-amzn-RequestId": context.request_id, "content-type": CONTENT_TYPE, **(headers or {})}
    return Reply(status, json.dumps(body, ensure_ascii=False).encode() if body else b"", named)


def _no_constant(text: str) -> Any:
    raise ValueError(text)

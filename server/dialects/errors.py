"""Errors as bytes: one function per dialect.

SageMaker tells two kinds of failure apart. What is wrong with the *request* (its headers, its size, the
endpoint's name) is the service's own error. What is wrong *inside the payload* is the container's answer,
which the service wraps as `ModelError` (424) with the original status and message; `Refusal` is that answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from server.dialects import eventstream
from server.dialects.identity import Identity
from server.dialects.paths import Kind, Route
from server.dialects.service_model import error_status
from server.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    HearthError,
    ModelFailed,
    NoSuchModel,
    NotFound,
    NotReady,
    PromptTooLong,
    RequestTimeout,
    Throttled,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

MAX_MESSAGE = 2048
"""Length of Message and OriginalMessage in the service model."""

ENDPOINT_FIELD = "EndpointName"
"""`NotFound.field` when it is the endpoint that was not found, rather than a route."""

_RUNTIME_CODES: tuple[tuple[type[HearthError], str], ...] = (
    (Throttled, "ThrottlingException"),
    (NotReady, "ModelNotReadyException"),
    (Unavailable, "ServiceUnavailable"),
    (Forbidden, "AccessDeniedException"),
    (NotFound, "ValidationError"),
    (RequestTimeout, "ValidationError"),
    (BadRequest, "ValidationError"),
    (HearthError, "InternalFailure"),
)

_OPENAI_TYPES: tuple[tuple[type[HearthError], str], ...] = (
    (Throttled, "rate_limit_error"),
    (NotReady, "service_unavailable_error"),
    (Unavailable, "service_unavailable_error"),
    (Unauthenticated, "invalid_request_error"),
    (Forbidden, "permission_error"),
    (NotFound, "invalid_request_error"),
    (RequestTimeout, "invalid_request_error"),
    (BadRequest, "invalid_request_error"),
    (HearthError, "server_error"),
)

_CONTAINER_TYPES: tuple[tuple[type[HearthError], str], ...] = (
    (Throttled, "overloaded"),
    (NotReady, "unhealthy"),
    (Unavailable, "unhealthy"),
    (Unauthenticated, "unauthorized"),
    (Forbidden, "forbidden"),
    (BadRequest, "validation"),
    (NotFound, "validation"),
    (HearthError, "generation"),
)
"""text-generation-inference's `error_type`."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as the model's container answers it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    container: str = ""
    """Which of a variant's several containers it was."""


class Refused(Exception):
    """Carries the mounted application's own error answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


def error_response(exc: HearthError, route: Route, request_id: str) -> Response:
    """`exc` in the dialect of the address that was called; the request's own fault, not its payload's."""
    if route.kind is Kind.OPENAI:
        return openai_error(exc)
    if route.kind is Kind.CONTAINER:
        return container_error(exc)
    return runtime_error(exc, request_id)


def payload_error(exc: HearthError, route: Route, identity: Identity, request_id: str) -> Response:
    """`exc` in the dialect of the address that was called, where the payload or the model is at fault."""
    if route.kind in (Kind.RUNTIME, Kind.STREAM) and isinstance(exc, BadRequest | ModelFailed):
        return model_error(refusal(exc), identity, request_id)
    return error_response(exc, route, request_id)


def runtime_error(exc: HearthError, request_id: str) -> Response:
    """AWS rest-json, as SageMaker Runtime."""
    code = exc.code if isinstance(exc, Unauthenticated) else _first(_RUNTIME_CODES, exc)
    status = error_status(code) or exc.status
    if isinstance(exc, Unauthenticated):
        status = 403 if exc.status == Unauthenticated.status else exc.status
    if isinstance(exc, BodyTooLarge | RequestTimeout | UnsupportedMedia):
        status = exc.status
    if isinstance(exc, NotFound) and exc.field != ENDPOINT_FIELD and not isinstance(exc, NoSuchModel):
        code, status = "UnknownOperationException", exc.status
    return _aws(status, code, {"Message": exc.message[:MAX_MESSAGE]}, request_id, _retry(exc))


def model_error(answer: Refusal, identity: Identity, request_id: str) -> Response:
    """The container's refusal, wrapped as SageMaker does."""
    side = "client" if answer.status < 500 else "server"
    code = "CLIENT_ERROR_FROM_MODEL" if answer.status < 500 else "INTERNAL_FAILURE_FROM_MODEL"
    original = answer.body.decode(errors="replace")[:MAX_MESSAGE]
    source = answer.container or identity.variant
    message = f'Received {side} error ({answer.status}) from {source} with message "{original}".'
    body = {
        "ErrorCode": code,
        "Message": message[:MAX_MESSAGE],
        "OriginalStatusCode": answer.status,
        "OriginalMessage": original,
        "LogStreamArn": identity.log_group_arn,
    }
    return _aws(error_status("ModelError") or 424, "ModelError", body, request_id, {})


def refusal(exc: HearthError) -> Refusal:
    """`exc` as text-generation-inference's container answers."""
    fields: dict[str, str] = {"error": exc.message, "error_type": _first(_CONTAINER_TYPES, exc)}
    if exc.field:
        fields["field"] = exc.field
    return Refusal(exc.status, json.dumps(fields, ensure_ascii=False).encode())


def container_error(exc: HearthError) -> Response:
    answer = refusal(exc)
    return Response(answer.body, answer.status, _retry(exc), answer.content_type)


def openai_error(exc: HearthError) -> Response:
    code, status = None, exc.status
    if isinstance(exc, Unauthenticated):
        code, status = "invalid_api_key", Unauthenticated.status
    elif isinstance(exc, PromptTooLong):
        code = "context_length_exceeded"
    elif isinstance(exc, NotFound):
        code = "model_not_found" if exc.field in ("model", ENDPOINT_FIELD) else "not_found"
    elif isinstance(exc, Throttled):
        code = "rate_limit_exceeded"
    error = {"message": exc.message, "type": _first(_OPENAI_TYPES, exc), "param": exc.field, "code": code}
    return JSONResponse({"error": error}, status, _retry(exc))


def stream_failure(exc: HearthError, *, timed_out: bool = False) -> bytes:
    """The event that ends a SageMaker stream which broke after it began."""
    code = "ModelInvocationTimeExceeded" if timed_out else "StreamBroken"
    return eventstream.exception("ModelStreamError", {"Message": exc.message[:MAX_MESSAGE], "ErrorCode": code})


def endpoint_not_found(name: str, account: str) -> NotFound:
    return NotFound(f"Endpoint {name} of account {account} not found.", field=ENDPOINT_FIELD)


def _first(table: tuple[tuple[type[HearthError], str], ...], exc: HearthError) -> str:
    return next(text for kind, text in table if isinstance(exc, kind))


def _retry(exc: HearthError) -> dict[str, str]:
    return {} if exc.retry_after is None else {"retry-after": str(exc.retry_after)}


def _aws(
    status: int, code: str, body: Mapping[str, object], request_id: str, headers: Mapping[str, str]
) -> Response:
    named = {"x-amzn-ErrorType": code, "x-amzn-RequestId": request_id, **headers}
    return JSONResponse(body, status, named)

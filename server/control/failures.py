"""Which code and status an error has in the answer of an operation: those that the service's model lists."""

from __future__ import annotations

from dataclasses import dataclass

from server.control.service import Service
from server.errors import (
    BadRequest,
    BodyTooLarge,
    Conflict,
    Forbidden,
    HearthError,
    InUse,
    LimitExceeded,
    NotFound,
    Refusal,
    RequestTimeout,
    Throttled,
    Unauthenticated,
    Unavailable,
    UnknownOperation,
    Unreadable,
)
from server.identity.refusals import Family, SignatureRefused

_NAMES: tuple[tuple[type[HearthError], tuple[str, ...]], ...] = (
    (UnknownOperation, ("UnknownOperationException",)),
    (Unreadable, ("SerializationException",)),
    (BodyTooLarge, ("RequestEntityTooLargeException",)),
    (RequestTimeout, ("RequestTimeoutException",)),
    (Throttled, ("ThrottlingException",)),
    (Unauthenticated, ("UnrecognizedClientException",)),
    (Forbidden, ("AccessDeniedException",)),
    (NotFound, ("ResourceNotFound", "ResourceNotFoundException", "NoSuchEntityException", "NotFoundException",
                "ObjectNotFoundException", "ValidationException")),
    (InUse, ("ConflictException", "DeleteConflictException", "ResourceInUse", "ValidationException")),
    (Conflict, ("ResourceInUse", "ConflictException", "EntityAlreadyExistsException", "AlreadyExistsException",
                "ResourceAlreadyExistsException", "ValidationException")),
    (LimitExceeded, ("ResourceLimitExceeded", "LimitExceededException", "ValidationException")),
    (BadRequest, ("ValidationException",)),
    (Unavailable, ("ServiceUnavailable",)),
)  # fmt: skip
"""Names for an error, the first that is legal for the operation; the last one where none is."""

_STATUS = {
    "InternalFailure": 500, "UnrecognizedClientException": 403, "ServiceUnavailable": 503,
    "RequestEntityTooLargeException": 413,
}  # fmt: skip
_QUERY = {
    "UnknownOperationException": "InvalidAction",
    "SerializationException": "MalformedInput",
    "ValidationException": "ValidationError",
    "AccessDeniedException": "AccessDenied",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ThrottlingException": "Throttling",
}
"""Common errors, as the query protocol calls them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on the wire. `query_code` is what the query protocol calls it."""

    code: str
    query_code: str
    message: str
    status: int
    query_status: int


def failure(error: HearthError, service: Service, operation: str) -> Failure:
    """`error` as `service` gives it from `operation`."""
    if isinstance(error, SignatureRefused):
        (code, status), (query_code, query_status) = error.said(Family.JSON), error.said(Family.QUERY)
        return Failure(code, query_code, error.message, status, query_status)
    listed = service.errors(operation)
    name = code_of(error, service, operation)
    facts = (listed[name].metadata.get("error") or {}) if name in listed else {}
    usual = error.status if isinstance(error, Refusal) else _STATUS.get(name, 400)
    status = facts.get("httpStatusCode", usual)
    refused = 403 if isinstance(error, Forbidden | Unauthenticated) else status
    return Failure(name, facts.get("code", _QUERY.get(name, name)), error.message, status, refused)


def code_of(error: HearthError, service: Service, operation: str) -> str:
    """The name that the service model lists for what happened; where it lists none, ValidationException."""
    if isinstance(error, Refusal | SignatureRefused):
        return error.code
    legal = service.errors(operation)
    for kind, names in _NAMES:
        if isinstance(error, kind):
            return next((name for name in names if name in legal), names[-1])
    return "InternalFailure"

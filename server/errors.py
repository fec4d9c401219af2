"""The tree of errors that Hearth answers with.

Every failure a client can see is one of these. Each dialect turns one into bytes in exactly one
function (`server.dialects.errors`), so a status or a code is decided here and nowhere else.

    HearthError                500  InternalFailure
    ├── BadRequest             400  the request is malformed or a value is out of range; names the field
    │   ├── BodyTooLarge       413
    │   ├── UnsupportedMedia   415
    │   ├── PromptTooLong      400
    │   ├── Unreadable         400  the bytes are not what the service model says
    │   └── UnknownOperation   400  no operation of that name is built
    ├── NotFound               404  no such endpoint, model or route
    │   └── NoSuchModel        404  the model that an invocation names is not below its endpoint's prefix
    ├── Conflict               409  the name is taken, or the resource is in another state
    │   └── InUse              409  something else needs the resource
    ├── LimitExceeded          400  there would be more of something than is allowed
    ├── Unauthenticated        401  no credentials, or none that are right
    ├── Forbidden              403
    ├── Refusal                ...  a code that one AWS service has for itself
    ├── Throttled              429  a queue is full; carries Retry-After
    ├── NotReady               503  the endpoint exists but did not become ready in time
    ├── Unavailable            503  no replica could answer; safe to retry
    ├── RequestTimeout         408  the client did not finish sending in time
    ├── VaultLocked            503  the master key that something is encrypted under is not there
    ├── SealBroken             500  what was encrypted was changed since, or belongs elsewhere
    └── ModelFailed            500  the model or the engine broke while answering
"""

from __future__ import annotations


class HearthError(Exception):
    """Base of all errors that reach a client.

    `message` is shown to the client verbatim. `field` names the offending part of the request
    (dotted, e.g. ``parameters.top_p``) when there is one. `retry_after` is in seconds.
    """

    status: int = 500
    code: str = "InternalFailure"

    def __init__(self, message: str, *, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = _writable(message)
        self.field = None if field is None else _writable(field)
        self.retry_after = retry_after


def _writable(text: str) -> str:
    """`text` with a question mark for what UTF-8 cannot write: halves of surrogate pairs that a client sent."""
    return text if text.isascii() else text.encode(errors="replace").decode()


class BadRequest(HearthError):
    status = 400
    code = "ValidationError"


class BodyTooLarge(BadRequest):
    status = 413


class UnsupportedMedia(BadRequest):
    status = 415


class PromptTooLong(BadRequest):
    code = "ContextLengthExceeded"


class Unreadable(BadRequest):
    code = "SerializationException"


class UnknownOperation(BadRequest):
    code = "UnknownOperationException"


class LimitExceeded(HearthError):
    status = 400
    code = "ResourceLimitExceeded"


class NotFound(HearthError):
    status = 404
    code = "NotFound"


class NoSuchModel(NotFound):
    code = "ValidationError"


class Conflict(HearthError):
    status = 409
    code = "Conflict"


class InUse(Conflict):
    code = "ResourceInUse"


class Unauthenticated(HearthError):
    status = 401
    code = "UnrecognizedClientException"


class Forbidden(HearthError):
    status = 403
    code = "AccessDenied"


class Refusal(HearthError):
    """An error under the very name that a service's model gives it, such as MalformedPolicyDocumentException."""

    def __init__(self, code: str, message: str, *, status: int = 400, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.code = code
        self.status = status


class Throttled(HearthError):
    status = 429
    code = "ThrottlingException"

    def __init__(self, message: str, *, field: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, field=field, retry_after=retry_after)


class NotReady(HearthError):
    status = 503
    code = "ModelNotReadyException"

    def __init__(self, message: str, *, field: str | None = None, retry_after: int = 5) -> None:
        super().__init__(message, field=field, retry_after=retry_after)


class Unavailable(HearthError):
    status = 503
    code = "ServiceUnavailable"

    def __init__(self, message: str, *, field: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, field=field, retry_after=retry_after)


class RequestTimeout(HearthError):
    status = 408
    code = "RequestTimeout"


class ModelFailed(HearthError):
    status = 500
    code = "ModelError"


class VaultLocked(HearthError):
    status = 503
    code = "VaultLocked"


class SealBroken(HearthError):
    code = "SealBroken"

"""Why a signed request is refused, and what each family of AWS services calls that."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from server.errors import Unauthenticated


class Reason(StrEnum):
    """Neutral; `CODES` has the names on the wire."""

    MISSING = "missing"
    """Neither an Authorization header nor a signed query."""
    TWICE = "twice"
    """Signed in the header and in the query."""
    OLD = "old"
    """Signature Version 2, or another algorithm that is not ours."""
    HEADER = "header"
    """The Authorization header or a date lacks a part or has a malformed one."""
    QUERY = "query"
    """A presigned address lacks a parameter or has a malformed one."""
    SCOPE = "scope"
    """Signed for another day, region or service than it is sent for."""
    COVERAGE = "coverage"
    """A header that has to be signed is not."""
    SKEWED = "skewed"
    """Signed too long ago or in the future."""
    EXPIRED = "expired"
    """A presigned address after its end."""
    EARLY = "early"
    """A presigned address before its start."""
    UNKNOWN_KEY = "unknown key"
    TOKEN = "token"
    """The session token is missing, not this key's, or there should be none."""
    TOKEN_EXPIRED = "token expired"
    MISMATCH = "mismatch"
    """The signature is not the one this key makes for this request."""
    PATH = "path"
    """Rightly signed, but for what the path comes to without its empty, ``.`` and ``..`` segments."""


class Family(StrEnum):
    """How errors are named."""

    JSON = "json"
    """JSON, CBOR and REST-JSON services: sagemaker, its runtime, logs, kms, cloudtrail, monitoring."""
    QUERY = "query"
    """Query services: sts, iam."""
    S3 = "s3"


CODES: Mapping[Reason, Mapping[Family, tuple[str, int]]] = {
    reason: {Family.JSON: json, Family.QUERY: query, Family.S3: s3}
    for reason, json, query, s3 in (
        (Reason.MISSING, ("MissingAuthenticationTokenException", 403), ("MissingAuthenticationToken", 403),
         ("AccessDenied", 403)),
        (Reason.TWICE, ("IncompleteSignatureException", 400), ("IncompleteSignature", 400), ("InvalidArgument", 400)),
        (Reason.OLD, ("IncompleteSignatureException", 400), ("IncompleteSignature", 400), ("InvalidRequest", 400)),
        (Reason.HEADER, ("IncompleteSignatureException", 400), ("IncompleteSignature", 400),
         ("AuthorizationHeaderMalformed", 400)),
        (Reason.QUERY, ("IncompleteSignatureException", 400), ("IncompleteSignature", 400),
         ("AuthorizationQueryParametersError", 400)),
        (Reason.SCOPE, ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403),
         ("AuthorizationHeaderMalformed", 400)),
        (Reason.COVERAGE, ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403), ("AccessDenied", 403)),
        (Reason.SKEWED, ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403),
         ("RequestTimeTooSkewed", 403)),
        (Reason.EXPIRED, ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403), ("AccessDenied", 403)),
        (Reason.EARLY, ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403), ("AccessDenied", 403)),
        (Reason.UNKNOWN_KEY, ("UnrecognizedClientException", 403), ("InvalidClientTokenId", 403),
         ("InvalidAccessKeyId", 403)),
        (Reason.TOKEN, ("UnrecognizedClientException", 403), ("InvalidClientTokenId", 403), ("InvalidToken", 400)),
        (Reason.TOKEN_EXPIRED, ("ExpiredTokenException", 403), ("ExpiredToken", 403), ("ExpiredToken", 400)),
        (Reason.MISMATCH, ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403),
         ("SignatureDoesNotMatch", 403)),
        (Reason.PATH, ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403),
         ("SignatureDoesNotMatch", 403)),
    )
}  # fmt: skip
"""Code and HTTP status."""


class SignatureRefused(Unauthenticated):
    """`code` and `status` are a JSON service's; `said` has the others'.

    `details` are what S3 puts beside its message, e.g. ``StringToSign``.
    """

    def __init__(self, reason: Reason, message: str, **details: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = details
        self.code, self.status = self.said(Family.JSON)

    def said(self, family: Family) -> tuple[str, int]:
        return CODES[self.reason][family]

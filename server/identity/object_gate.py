"""The S3 API's gate where callers have to prove who they are: Signature Version 4, in the header or presigned."""

from __future__ import annotations

import time
from collections.abc import Callable

from server.identity.canonical import Sent
from server.identity.credential import Lookup
from server.identity.refusals import Family, Reason, SignatureRefused
from server.identity.signed import Signed
from server.identity.sigv4 import SigningKeys, Verifier
from server.objects.errors import ObjectError
from server.objects.key_use import Uses
from server.objects.request import Request
from server.objects.seal import Seal
from server.objects.signature import Caller, Keys

_SIGNED_CHUNKS = frozenset({"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"})
_NAMED = _SIGNED_CHUNKS | {"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
_HEX = frozenset("0123456789abcdefABCDEF")

_USUAL = frozenset({Reason.MISSING, Reason.SKEWED, Reason.UNKNOWN_KEY, Reason.TOKEN, Reason.TOKEN_EXPIRED,
                    Reason.MISMATCH})  # fmt: skip
"""What S3 says in words of its own, the same each time."""


class StrictGate:
    """Only who `lookup` knows and whose signature is right. `region` None: whichever the client signed for."""

    def __init__(
        self, lookup: Lookup, *, region: str | None = None, now: Callable[[], float] = time.time,
        keys: SigningKeys | None = None,
    ) -> None:  # fmt: skip
        self._verifier = Verifier(lookup, now=now, keys=keys)
        self._region = region

    def admit(self, request: Request) -> Caller:
        """Raises ObjectError with S3's codes for what `SignatureRefused` says."""
        sent = Sent(request.method, request.raw_path, request.raw_query, request.raw_headers)
        try:
            signed = self._verifier.read(sent, services=("s3",), region=self._region)
            payload = _payload(signed)
            verified = self._verifier.prove(sent, signed, payload)
        except SignatureRefused as refused:
            raise _said(refused, presigned=b"X-Amz-Credential" in request.raw_query) from None
        credential = verified.credential
        seal = Seal(verified.key, signed.date, signed.scope, signed.signature) if payload in _SIGNED_CHUNKS else None
        return Caller(credential.access_key, credential.account, credential.arn, payload, seal)

    def permit(self, caller: Caller, request: Request, operation: str, keys: Keys) -> None:
        """Whoever is known may do everything; the gate around this one asks IAM."""

    def uses(self, caller: Caller, request: Request) -> Uses | None:
        return None


def _payload(signed: Signed) -> str:
    if signed.payload is None:
        if signed.expires is None:
            raise ObjectError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        return "UNSIGNED-PAYLOAD"
    if signed.payload in _NAMED or (len(signed.payload) == 64 and _HEX.issuperset(signed.payload)):
        return signed.payload
    raise ObjectError(
        "InvalidArgument", f"x-amz-content-sha256 must be {', '.join(sorted(_NAMED))}, or a valid sha256 value.",
        ArgumentName="x-amz-content-sha256", ArgumentValue=signed.payload,
    )  # fmt: skip


def _said(refused: SignatureRefused, *, presigned: bool) -> ObjectError:
    code, status = refused.said(Family.S3)
    message: str | None = refused.message
    if refused.reason in _USUAL:
        message = None
    elif refused.reason is Reason.EXPIRED:
        message = "Request has expired"
    elif refused.reason is Reason.EARLY:
        message = "Request is not valid yet"
    elif code == "AuthorizationHeaderMalformed":
        code = "AuthorizationQueryParametersError" if presigned else code
        message = refused.message if presigned else f"The authorization header is malformed; {refused.message}"
    return ObjectError(code, message, status=status, **refused.details)

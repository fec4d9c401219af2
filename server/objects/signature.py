"""Who sends a request: the gate that decides it, and the one that takes anybody.

`LooseGate` is what a Hearth on loopback uses: any credentials do, but a presigned URL ends when it says so.
The gate that verifies signatures is `server.identity.object_gate.StrictGate`; `server.objects.app.application` takes
either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from server.objects.errors import ObjectError
from server.objects.key_use import Uses
from server.objects.request import Request
from server.objects.seal import Seal

LONGEST_PRESIGNED_S = 7 * 24 * 3600
_SKEW = timedelta(minutes=15)
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")


@dataclass(frozen=True, slots=True)
class Caller:
    access_key: str
    account: str = ""
    """Empty where nobody is asked who they are; `arn` too."""
    arn: str = ""
    payload: str | None = None
    """What the signature says of the body, as x-amz-content-sha256 has it; None: what that header says, unverified."""
    seal: Seal | None = None
    """Verifies the chunks of a signed aws-chunked body; None: their signatures are not verified."""


Keys = Iterable[tuple[str, bool]]
"""Keys that a body names, and whether by version."""


class Gate(Protocol):
    """Called on the event loop."""

    def admit(self, request: Request) -> Caller:
        """The caller of `request`. Raises ObjectError."""
        ...

    def permit(self, caller: Caller, request: Request, operation: str, keys: Keys) -> None:
        """Asked before `operation`, which S3's model calls so, runs. Raises ObjectError."""
        ...

    def uses(self, caller: Caller, request: Request) -> Uses | None:
        """What is asked, on any thread, before a KMS key is used for the caller; None: every key may be."""
        ...


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class LooseGate:
    """Any credentials; unsigned requests are refused, presigned ones end in time."""

    now: Callable[[], datetime] = _now

    def admit(self, request: Request) -> Caller:
        query = request.query
        if "X-Amz-Signature" in query or "X-Amz-Credential" in query:
            return self._presigned(request)
        if "Signature" in query and "AWSAccessKeyId" in query:
            self._end(_instant(query.get("Expires", "")))
            return Caller(query["AWSAccessKeyId"])
        authorization = request.headers.get("authorization", "")
        if found := _CREDENTIAL.search(authorization):
            return Caller(found[1])
        if authorization.startswith("AWS "):
            return Caller(authorization[4:].partition(":")[0])
        raise ObjectError("AccessDenied", "Access Denied: the request is not signed.")

    def permit(self, caller: Caller, request: Request, operation: str, keys: Keys) -> None:
        """Everyone may do everything."""

    def uses(self, caller: Caller, request: Request) -> Uses | None:
        return None

    def _presigned(self, request: Request) -> Caller:
        query = request.query
        wanted = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
                  "X-Amz-Signature")  # fmt: skip
        if missing := [name for name in wanted if not query.get(name)]:
            raise _malformed(f"A presigned URL needs {', '.join(wanted)}; {', '.join(missing)} is missing.")
        if query["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256":
            raise _malformed("X-Amz-Algorithm only supports AWS4-HMAC-SHA256.")
        expires = query["X-Amz-Expires"]
        if not re.fullmatch(r"\d{1,7}", expires) or not 1 <= int(expires) <= LONGEST_PRESIGNED_S:
            raise _malformed(f"X-Amz-Expires must be a number of seconds from 1 to {LONGEST_PRESIGNED_S} (a week).")
        try:
            start = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise _malformed("X-Amz-Date must be in the ISO8601 Long Format yyyyMMdd'T'HHmmss'Z'.") from None
        if start > self.now() + _SKEW:
            raise ObjectError("AccessDenied", "Request is not valid yet")
        self._end(start + timedelta(seconds=int(expires)))
        return Caller(query["X-Amz-Credential"].partition("/")[0])

    def _end(self, end: datetime) -> None:
        now = self.now()
        if now > end:
            raise ObjectError(
                "AccessDenied", "Request has expired", Expires=end.isoformat(), ServerTime=now.isoformat()
            )


def _malformed(message: str) -> ObjectError:
    return ObjectError("AuthorizationQueryParametersError", message)


def _instant(text: str) -> datetime:
    if not re.fullmatch(r"\d{1,11}", text):
        raise ObjectError("AccessDenied", "Invalid date (should be seconds since epoch)", Expires=text)
    return datetime.fromtimestamp(int(text), UTC)

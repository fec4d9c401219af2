"""Signature Version 4, verified: `Verifier` from a request as received to the credential that signed it.

A signature proves who sent a request and that nothing it covers was changed. It does not make a request happen once:
AWS's rules let the same signed bytes be sent again while their date is within `SKEW_S` (SDKs resend them when an answer
is lost), or until a presigned address ends. Who can read the wire can replay for that long, so TLS is what keeps
replays away, and these two bounds are what ends them.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from server.identity import canonical
from server.identity.canonical import Sent
from server.identity.credential import Credential, Lookup
from server.identity.refusals import Reason, SignatureRefused
from server.identity.signed import ALGORITHM, Signed, read

SKEW_S = 15 * 60
"""How far a request's date may lie from the clock here, before or behind."""

_SIGNATURE = frozenset({b"X-Amz-Signature"})
_SIGNATURE_AND_TOKEN = _SIGNATURE | {b"X-Amz-Security-Token"}


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class SigningKeys:
    """Derived keys of signatures that proved right, `limit` at most: a forged scope takes no room here."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._keys: dict[tuple[str, str, str, str], tuple[str, bytes]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, signed: Signed, secret: str) -> bytes:
        known = self._keys.get(_place(signed))
        if known is not None and known[0] == secret:
            return known[1]
        return signing_key(secret, signed.date[:8], signed.region, signed.service)

    def keep(self, signed: Signed, secret: str, key: bytes) -> None:
        place = _place(signed)
        if place in self._keys and self._keys[place][1] == key:
            return
        with self._lock:
            while len(self._keys) >= self._limit and place not in self._keys:
                del self._keys[next(iter(self._keys))]
            self._keys[place] = (secret, key)


def _place(signed: Signed) -> tuple[str, str, str, str]:
    return signed.access_key, signed.date[:8], signed.region, signed.service


@dataclass(frozen=True, slots=True)
class Verified:
    credential: Credential
    signed: Signed
    key: bytes = field(repr=False)
    """The signing key: what signs the chunks that follow."""


class Verifier:
    """Verifies against the keys that `lookup` knows. One for a process; `now` is in Unix seconds."""

    def __init__(
        self, lookup: Lookup, *, now: Callable[[], float] = time.time, keys: SigningKeys | None = None
    ) -> None:
        self._lookup = lookup
        self._now = now
        self._keys = SigningKeys() if keys is None else keys

    def verify(self, sent: Sent, body: bytes, *, services: Collection[str] = (), region: str | None = None) -> Verified:
        """Of a request to any service but S3, whose payload is always its body. Raises SignatureRefused."""
        return self.prove(sent, self.read(sent, services=services, region=region), hashlib.sha256(body).hexdigest())

    def read(self, sent: Sent, *, services: Collection[str] = (), region: str | None = None) -> Signed:
        """What can be known before the body is here: well-formed, for us, in time. Proves nothing yet.

        `services` are signing names that are taken (none given: any); `region` None: any. Raises SignatureRefused.
        """
        signed = read(sent)
        if services and signed.service not in services:
            wanted = "', '".join(sorted(services))
            raise SignatureRefused(Reason.SCOPE, f"Credential should be scoped to correct service: '{wanted}'.")
        if region is not None and signed.region != region:
            raise SignatureRefused(
                Reason.SCOPE, f"Credential should be scoped to a valid region, not '{signed.region}'; "
                f"expecting '{region}'.", Region=region,
            )  # fmt: skip
        check_time(signed, self._now())
        return signed

    def prove(self, sent: Sent, signed: Signed, payload: str) -> Verified:
        """`payload` is the canonical request's last line: the body's SHA-256 in hex, or a name that stands for it.

        Raises SignatureRefused: UNKNOWN_KEY, COVERAGE, MISMATCH, PATH, TOKEN or TOKEN_EXPIRED.
        """
        credential = self._lookup(signed.access_key)
        if credential is None:
            raise SignatureRefused(
                Reason.UNKNOWN_KEY, "The security token included in the request is invalid.",
                AWSAccessKeyId=signed.access_key,
            )  # fmt: skip
        key = self._keys.of(signed, credential.secret)
        check_signature(sent, signed, key, payload)
        self._keys.keep(signed, credential.secret, key)
        if not credential.takes(signed.token):
            raise SignatureRefused(Reason.TOKEN, "The security token included in the request is invalid.")
        if credential.expires_at is not None and self._now() >= credential.expires_at:
            raise SignatureRefused(Reason.TOKEN_EXPIRED, "The security token included in the request is expired")
        return Verified(credential, signed, key)


def check_time(signed: Signed, now: float) -> None:
    """Raises SignatureRefused: SKEWED, or EXPIRED or EARLY for a presigned address. `now` in Unix seconds."""
    lasts = SKEW_S if signed.expires is None else signed.expires
    if signed.at - SKEW_S <= now <= signed.at + lasts:
        return
    reason = Reason.SKEWED
    details = {"RequestTime": signed.date, "ServerTime": _iso(now), "MaxAllowedSkewMilliseconds": str(SKEW_S * 1000)}
    if signed.expires is not None:
        reason = Reason.EARLY if now < signed.at else Reason.EXPIRED
        details = {"X-Amz-Expires": str(signed.expires), "Expires": _iso(signed.at + lasts), "ServerTime": _iso(now)}
    if now < signed.at:
        raise SignatureRefused(
            reason, f"Signature not yet current: {signed.date} is still later than {_basic(now + SKEW_S)} "
            f"({_basic(now)} + {SKEW_S // 60} min.)", **details,
        )  # fmt: skip
    span = f"{SKEW_S // 60} min." if signed.expires is None else f"{signed.expires} s."
    raise SignatureRefused(
        reason, f"Signature expired: {signed.date} is now earlier than {_basic(now - lasts)} ({_basic(now)} - {span})",
        **details,
    )  # fmt: skip


def check_signature(sent: Sent, signed: Signed, key: bytes, payload: str) -> None:
    """Raises SignatureRefused: COVERAGE, MISMATCH or PATH."""
    rules = canonical.rules(signed.service)
    path = canonical.path(sent.path, rules)
    names = b";".join(signed.signed_headers)
    headers = canonical.headers(sent.headers, signed.signed_headers, rules)
    in_query = signed.expires is not None
    query = canonical.query(sent.query, _SIGNATURE if in_query else frozenset())
    request = canonical.request(sent, path, query, names, headers, payload)
    text = string_to_sign(signed, request)
    right = _matches(key, text, signed.signature)
    if not right and in_query and signed.token and rules.token_may_follow:
        query = canonical.query(sent.query, _SIGNATURE_AND_TOKEN)
        shorter = canonical.request(sent, path, query, names, headers, payload)
        right = _matches(key, string_to_sign(signed, shorter), signed.signature)
    if not right:
        raise SignatureRefused(
            Reason.MISMATCH, "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method. Consult the service documentation for details.",
            AWSAccessKeyId=signed.access_key, StringToSign=text.decode(), SignatureProvided=signed.signature,
            CanonicalRequest=request.decode("utf-8", "replace"),
        )  # fmt: skip
    if rules.normalise and canonical.normalised(sent.path) != sent.path:
        raise SignatureRefused(
            Reason.PATH,
            f"The path has empty, '.' or '..' segments and was signed without them: send {path.decode()} instead.",
        )


def string_to_sign(signed: Signed, request: bytes) -> bytes:
    digest = hashlib.sha256(request).hexdigest()
    return f"{ALGORITHM}\n{signed.date}\n{signed.scope}\n{digest}".encode()


def _matches(key: bytes, text: bytes, signature: str) -> bool:
    return hmac.compare_digest(hmac.digest(key, text, "sha256").hex(), signature)


def _basic(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

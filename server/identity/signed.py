"""What a request says of its own signature: in the Authorization header, or in the query of a presigned address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from server.identity.canonical import Sent
from server.identity.refusals import Reason, SignatureRefused

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST_PRESIGNED_S = 7 * 24 * 3600

_PRESIGNED = frozenset({"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Algorithm"})
_NEEDED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
           "X-Amz-Signature")  # fmt: skip
_MUST = frozenset({b"authorization", b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256", b"host"})
"""Headers that decide: a second one of them could be read by one part and signed by another."""


@dataclass(frozen=True, slots=True)
class Signed:
    access_key: str
    date: str
    """``YYYYMMDDTHHMMSSZ``."""
    at: float
    """`date` in Unix seconds."""
    region: str
    service: str
    signed_headers: tuple[bytes, ...]
    signature: str
    expires: int | None
    """Seconds that a presigned address lasts; None: signed in the header."""
    token: str | None = field(repr=False)
    payload: str | None
    """x-amz-content-sha256, from the header or a presigned query."""

    @property
    def scope(self) -> str:
        return f"{self.date[:8]}/{self.region}/{self.service}/aws4_request"


def read(sent: Sent) -> Signed:
    """Raises SignatureRefused: MISSING, TWICE, OLD, HEADER, QUERY, SCOPE or COVERAGE."""
    seen: dict[bytes, bytes] = {}
    for name, value in sent.headers:
        if name in _MUST:
            if name in seen:
                raise SignatureRefused(Reason.HEADER, f"The header {name.decode()} is there twice.")
            seen[name] = value
        elif name == b"date":
            seen.setdefault(name, value)
    texts = {name: _ascii(name, value) for name, value in seen.items()}
    authorization = texts.get(b"authorization")
    parameters = _parameters(sent.query) if b"X-Amz-" in sent.query else {}
    in_query = not _PRESIGNED.isdisjoint(parameters)
    if authorization is not None and in_query:
        raise SignatureRefused(
            Reason.TWICE, "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
            "string parameter or the Authorization header should be specified",
        )  # fmt: skip
    if in_query:
        return _from_query(parameters, texts)
    if authorization is None:
        if b"Signature=" in sent.query and b"AWSAccessKeyId=" in sent.query:
            raise _old(" boto3 presigns that way with Config(signature_version='s3v4').")
        raise SignatureRefused(Reason.MISSING, "Missing Authentication Token")
    return _from_header(authorization, texts)


def _from_header(text: str, headers: Mapping[bytes, str]) -> Signed:
    scheme, _, rest = text.partition(" ")
    if scheme != ALGORITHM:
        if scheme.startswith("AWS"):
            raise _old()
        raise SignatureRefused(Reason.MISSING, "Missing Authentication Token")
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in parts:
            raise SignatureRefused(Reason.HEADER, f"'{part.strip()}' not a valid key=value pair (missing equal-sign or "
                                                  f"given twice) in Authorization header: '{text}'.")  # fmt: skip
        parts[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    date = headers.get(b"x-amz-date") or headers.get(b"date")
    if missing or not date:
        said = [f"Authorization header requires '{name}' parameter." for name in missing]
        said += [] if date else ["Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."]
        raise SignatureRefused(Reason.HEADER, f"{' '.join(said)} Authorization={text}")
    date, at = _instant(date, Reason.HEADER) if b"x-amz-date" in headers else _rfc_instant(date)
    return _signed(
        parts["Credential"], date, at, parts["SignedHeaders"], parts["Signature"],
        None, headers.get(b"x-amz-security-token"), headers.get(b"x-amz-content-sha256"), Reason.HEADER,
    )  # fmt: skip


def _parameters(raw: bytes) -> dict[str, str]:
    """Those of a query whose names begin with ``X-Amz-``."""
    given: dict[str, str] = {}
    for piece in raw.split(b"&"):
        name, _, value = piece.partition(b"=")
        name = unquote_to_bytes(name) if b"%" in name else name
        if name.startswith(b"X-Amz-"):
            key = _ascii(b"The query", name)
            if key in given:
                raise SignatureRefused(Reason.QUERY, f"The query parameter {key} is there twice.")
            given[key] = _ascii(name, unquote_to_bytes(value.replace(b"+", b" ")))
    return given


def _from_query(given: Mapping[str, str], headers: Mapping[bytes, str]) -> Signed:
    if missing := [name for name in _NEEDED if not given.get(name)]:
        raise SignatureRefused(
            Reason.QUERY, "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
            "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters; "
            f"missing: {', '.join(missing)}.",
        )  # fmt: skip
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise _old()
    expires = given["X-Amz-Expires"]
    if not (expires.isdigit() and len(expires) <= 7 and 1 <= int(expires) <= LONGEST_PRESIGNED_S):
        raise SignatureRefused(
            Reason.QUERY, f"X-Amz-Expires must be a number of seconds from 1 to {LONGEST_PRESIGNED_S} (a week)."
        )
    date, at = _instant(given["X-Amz-Date"], Reason.QUERY)
    token = given.get("X-Amz-Security-Token") or headers.get(b"x-amz-security-token")
    return _signed(
        given["X-Amz-Credential"], date, at, given["X-Amz-SignedHeaders"], given["X-Amz-Signature"],
        int(expires), token, given.get("X-Amz-Content-Sha256") or headers.get(b"x-amz-content-sha256"), Reason.QUERY,
    )  # fmt: skip


def _signed(
    credential: str, date: str, at: float, names: str, signature: str,
    expires: int | None, token: str | None, payload: str | None, malformed: Reason,
) -> Signed:  # fmt: skip
    scope = credential.split("/")
    if len(scope) != 5 or not scope[0] or not _is_name(scope[2]) or not _is_name(scope[3]):
        raise SignatureRefused(malformed, "Credential must have exactly 5 slash-delimited elements, e.g. "
                                          f"keyid/date/region/service/term, got '{credential}'")  # fmt: skip
    access_key, day, region, service, term = scope
    if term != "aws4_request":
        raise SignatureRefused(
            Reason.SCOPE, f"Credential should be scoped with a valid terminator: 'aws4_request', not '{term}'."
        )
    if day != date[:8]:
        raise SignatureRefused(Reason.SCOPE, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version "
                                             f"of date from HTTP: '{day}' != '{date[:8]}', from '{date}'.")  # fmt: skip
    signed = tuple(names.encode().split(b";"))
    if b"host" not in signed:
        raise SignatureRefused(Reason.COVERAGE, "'Host' or ':authority' must be a 'SignedHeader' in the AWS "
                                                "Authorization header.")  # fmt: skip
    if expires is None and b"x-amz-date" not in signed and b"date" not in signed:
        raise SignatureRefused(Reason.COVERAGE, "'X-Amz-Date' or 'Date' must be a 'SignedHeader' in the AWS "
                                                "Authorization header.")  # fmt: skip
    return Signed(access_key, date, at, region, service, signed, signature, expires, token, payload)


def _is_name(text: str) -> bool:
    """Of a region or a service: lower-case letters, digits and hyphens, 32 at most."""
    return len(text) <= 32 and text.replace("-", "").isalnum() and text == text.lower()


def _instant(text: str, malformed: Reason) -> tuple[str, float]:
    if len(text) == 16 and text[8] == "T" and text[15] == "Z" and (text[:8] + text[9:15]).isdigit():
        try:
            return text, datetime(
                int(text[:4]), int(text[4:6]), int(text[6:8]),
                int(text[9:11]), int(text[11:13]), int(text[13:15]), tzinfo=UTC,
            ).timestamp()  # fmt: skip
        except ValueError:
            raise _undated(text, malformed) from None
    raise _undated(text, malformed)


def _rfc_instant(text: str) -> tuple[str, float]:
    """Of a Date header, whose time enters the signature in ISO 8601's basic form."""
    try:
        moment = parsedate_to_datetime(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise _undated(text, Reason.HEADER) from None
    return moment.strftime("%Y%m%dT%H%M%SZ"), moment.timestamp()


def _undated(text: str, malformed: Reason) -> SignatureRefused:
    return SignatureRefused(malformed, f"Date must be in ISO-8601 'basic format', YYYYMMDD'T'HHMMSS'Z'. Got '{text}'.")


def _old(fix: str = "") -> SignatureRefused:
    return SignatureRefused(
        Reason.OLD, f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.{fix}"
    )


def _ascii(name: bytes, value: bytes) -> str:
    try:
        return value.decode("ascii").strip()
    except UnicodeDecodeError:
        raise SignatureRefused(Reason.HEADER, f"{name.decode('latin-1')} has characters beyond ASCII.") from None

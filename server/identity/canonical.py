"""A request as Signature Version 4 sees it: the canonical request, from the bytes that arrived.

Source: "Create a signed AWS API request" (AWS IAM User Guide) and "Signature Calculations for the Authorization
Header" (Amazon S3 API Reference).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from server.identity.refusals import Reason, SignatureRefused

Fields = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as received: nothing decoded, nothing joined."""

    method: str
    path: bytes
    """Percent-encoded as it came, without the query."""
    query: bytes
    headers: Fields
    """Names in lower case, in the order of arrival, several of one name as several."""

    @classmethod
    def of(cls, scope: Any) -> Sent:
        """Of an ASGI HTTP scope."""
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        return cls(scope["method"], raw.partition(b"?")[0], scope["query_string"], scope["headers"])


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between services."""

    normalise: bool
    """Empty, ``.`` and ``..`` segments leave the path before it is signed."""
    encode_again: bool
    """The path is percent-encoded once more, as it arrived; otherwise it is decoded and encoded once."""
    token_may_follow: bool
    """The session token may be added after signing."""


S3 = Rules(normalise=False, encode_again=False, token_may_follow=False)
AWS = Rules(normalise=True, encode_again=True, token_may_follow=True)
"""Of every service but S3."""


def rules(service: str) -> Rules:
    return S3 if service == "s3" else AWS


def request(sent: Sent, path: str, query: str, signed_headers: bytes, headers: bytes, payload: str) -> bytes:
    return b"%b\n%b\n%b\n%b\n\n%b\n%b" % (
        sent.method.encode(), path.encode(), query.encode(), headers, signed_headers, payload.encode(),
    )  # fmt: skip


def path(raw: bytes, rule: Rules) -> str:
    if rule.encode_again:
        return quote_from_bytes((normalised(raw) if rule.normalise else raw) or b"/")
    if b"%" not in raw:
        return quote_from_bytes(raw or b"/")
    # Segment by segment: %2F is not the slash that parts a bucket from its key.
    return "/".join(quote_from_bytes(unquote_to_bytes(segment), safe="") for segment in raw.split(b"/"))


def normalised(raw: bytes) -> bytes:
    """`raw` without empty, ``.`` and ``..`` segments (RFC 3986, 5.2.4)."""
    if b"/." not in raw and b"//" not in raw:
        return raw
    kept: list[bytes] = []
    for segment in raw.split(b"/"):
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    end = b"/" if kept and raw.endswith(b"/") else b""
    return b"/" + b"/".join(kept) + end


def query(raw: bytes, without: frozenset[str] = frozenset()) -> str:
    """Decoded as a handler decodes it (``+`` is a space), so that no two meanings share one signature."""
    if not raw:
        return ""
    pairs = []
    for piece in raw.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append((_encoded(name), _encoded(value)))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs if name not in without])


def _encoded(raw: bytes) -> str:
    if b"%" in raw or b"+" in raw:
        raw = unquote_to_bytes(raw.replace(b"+", b" "))
    return quote_from_bytes(raw, safe="")


def headers(fields: Fields, names: tuple[bytes, ...], rule: Rules) -> bytes:
    """The lines of `names`. Raises SignatureRefused where a header that has to be signed is not, or is absent."""
    found: dict[bytes, bytes] = {}
    wanted = frozenset(names)
    unsigned: list[bytes] = []
    for name, value in fields:
        if name in wanted:
            text = b" ".join(value.split())
            found[name] = found[name] + b"," + text if name in found else text
        elif name.startswith(b"x-amz-") and not (rule.token_may_follow and name == b"x-amz-security-token"):
            unsigned.append(name)
    if unsigned:
        listed = ", ".join(sorted({name.decode("latin-1") for name in unsigned}))
        raise SignatureRefused(
            Reason.COVERAGE, f"There were headers present in the request which were not signed: {listed}",
            HeadersNotSigned=listed,
        )  # fmt: skip
    if len(found) != len(wanted):
        absent = ", ".join(sorted(name.decode() for name in wanted - found.keys()))
        raise SignatureRefused(Reason.COVERAGE, f"Headers named in SignedHeaders are not in the request: {absent}")
    return b"\n".join([b"%b:%b" % (name, found[name]) for name in names])

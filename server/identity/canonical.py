"""A request as Signature Version 4 sees it: the canonical request, from the bytes that arrived.

Source: "Create a signed AWS API request" (AWS IAM User Guide) and "Signature Calculations for the Authorization
Header" (Amazon S3 API Reference).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

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


_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_OF_PATH = _UNRESERVED + b"/"
_ENCODED = [bytes([code]) if code in _UNRESERVED else b"%%%02X" % code for code in range(256)]
_ENCODED_PATH = [b"/" if code == 0x2F else text for code, text in enumerate(_ENCODED)]

S3 = Rules(normalise=False, encode_again=False, token_may_follow=False)
AWS = Rules(normalise=True, encode_again=True, token_may_follow=True)
"""Of every service but S3."""


def rules(service: str) -> Rules:
    return S3 if service == "s3" else AWS


def request(sent: Sent, path: bytes, query: bytes, signed_headers: bytes, headers: bytes, payload: str) -> bytes:
    return b"%b\n%b\n%b\n%b\n\n%b\n%b" % (
        sent.method.encode(), path, query, headers, signed_headers, payload.encode(),
    )  # fmt: skip


def path(raw: bytes, rule: Rules) -> bytes:
    if rule.normalise:
        raw = normalised(raw)
    if not raw.translate(None, _OF_PATH):
        return raw or b"/"
    if rule.encode_again:
        return b"".join([_ENCODED_PATH[code] for code in raw])
    # Segment by segment: %2F is not the slash that parts a bucket from its key.
    return b"/".join([_encoded(unquote_to_bytes(segment)) for segment in raw.split(b"/")])


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


def query(raw: bytes, without: frozenset[bytes] = frozenset()) -> bytes:
    """Decoded as a handler decodes it (``+`` is a space), so that no two meanings share one signature."""
    if not raw:
        return b""
    pairs = []
    for piece in raw.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            name = _encoded(_decoded(name))
            if name not in without:
                pairs.append((name, _encoded(_decoded(value))))
    pairs.sort()
    return b"&".join([b"%b=%b" % pair for pair in pairs])


def _decoded(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" ")) if b"%" in raw or b"+" in raw else raw


def _encoded(raw: bytes) -> bytes:
    return b"".join([_ENCODED[code] for code in raw]) if raw.translate(None, _UNRESERVED) else raw


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

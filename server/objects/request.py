"""An S3 request as it arrived, and how it is told from Hearth's other traffic."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.types import Scope

from server.objects.errors import ObjectError

MAX_HEADER_BYTES = 16 * 1024

_SCOPE = "/s3/aws4_request"
_OLD_QUERY = {"AWSAccessKeyId", "Signature", "Expires"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    bucket: str
    """Empty: the service itself."""
    key: str
    """Empty: the bucket itself."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in lower case; values as Latin-1, several of one name joined by a comma."""
    path: str
    raw_path: bytes = b""
    """As received, for the signature: still percent-encoded."""
    raw_query: bytes = b""
    raw_headers: Iterable[tuple[bytes, bytes]] = ()


def is_object_request(scope: Scope, hosts: Iterable[str] = ()) -> bool:
    """Whether `scope` is S3's: signed for it, presigned, or sent to ``BUCKET.HOST`` for one of `hosts`.

    An unsigned path-style request is not: nothing would tell it from any other path.
    """
    if scope["type"] != "http":
        return False
    headers = _headers(scope)
    authorization = headers.get("authorization", "")
    credential = authorization.partition("Credential=")[2].partition(",")[0].strip()
    if credential.endswith(_SCOPE) or authorization.startswith("AWS "):
        return True
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    if query.get("X-Amz-Credential", "").endswith(_SCOPE) or query.keys() >= _OLD_QUERY:
        return True
    return bool(_bucket_of_host(headers.get("host", ""), hosts))


def read_request(scope: Scope, hosts: Iterable[str]) -> Request:
    """Raises InvalidURI for an address that is no UTF-8, RequestHeaderSectionTooLarge."""
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEADER_BYTES:
        raise ObjectError("RequestHeaderSectionTooLarge", MaxSizeAllowed=str(MAX_HEADER_BYTES))
    headers = _headers(scope)
    raw: bytes = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
    try:
        path = unquote_to_bytes(raw).decode()
        text = scope["query_string"].decode("ascii")
        query = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100))
    except (UnicodeDecodeError, ValueError):
        raise ObjectError("InvalidURI") from None
    bucket = _bucket_of_host(headers.get("host", ""), hosts)
    key = path[1:]
    if not bucket:
        bucket, _, key = key.partition("/")
    return Request(
        scope["method"], bucket, key, query, headers, path, raw, scope["query_string"], tuple(scope["headers"])
    )


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        field, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[field] = f"{headers[field]},{text}" if field in headers else text
    return headers


def _bucket_of_host(host: str, hosts: Iterable[str]) -> str:
    name = re.sub(r":\d+$", "", host).lower()
    for base in hosts:
        if name.endswith(f".{base}") and name != base:
            return name.removesuffix(f".{base}").removesuffix(".s3")
    return ""

"""ListObjects and ListObjectsV2."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local.pages import Page, after, page
from server.objects.local.records import Listed, moment
from server.objects.local.registry import Result, operation
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

MAX_ENTRIES = 1000


@operation("Bucket Delimiter EncodingType Marker MaxKeys Prefix OptionalObjectAttributes")
def list_objects(store: LocalStore, params: Params, _body: Body | None) -> Result:
    marker, delimiter = params.get("Marker", ""), params.get("Delimiter", "")
    found = _page(store, params, marker)
    encode = encoder(params)
    result = _shown(store, params, found, owner=True)
    result["Marker"] = encode(marker)
    if found.truncated and delimiter:
        result["NextMarker"] = encode(found.last)
    return result


@operation(
    "Bucket Delimiter EncodingType MaxKeys Prefix ContinuationToken FetchOwner StartAfter OptionalObjectAttributes"
)
def list_objects_v2(store: LocalStore, params: Params, _body: Body | None) -> Result:
    token, start = params.get("ContinuationToken"), params.get("StartAfter", "")
    found = _page(store, params, start if token is None else _marker_of(token))
    result = _shown(store, params, found, owner=bool(params.get("FetchOwner")))
    result["KeyCount"] = len(found.rows) + len(found.prefixes)
    if token is not None:
        result["ContinuationToken"] = token
    if start:
        result["StartAfter"] = encoder(params)(start)
    if found.truncated:
        result["NextContinuationToken"] = base64.urlsafe_b64encode(found.last.encode()).decode()
    return result


def limit_of(params: Params, member: str, name: str) -> int:
    """Raises InvalidArgument."""
    limit = int(params.get(member, MAX_ENTRIES))
    if not 0 <= limit < 2**31:
        raise ObjectError("InvalidArgument", f"Argument {name} must be an integer between 0 and 2147483647",
                          ArgumentName=name, ArgumentValue=str(limit))  # fmt: skip
    return min(limit, MAX_ENTRIES)


def encoder(params: Params) -> Callable[[str], str]:
    """What keys and prefixes in the answer go through."""
    return partial(quote, safe="/") if params.get("EncodingType") == "url" else str


def _page(store: LocalStore, params: Params, marker: str) -> Page[Listed]:
    bucket, prefix, delimiter = params["Bucket"], params.get("Prefix", ""), params.get("Delimiter", "")
    store.index.bucket(bucket)
    start = after(marker, prefix, delimiter) if marker else b""
    limit = limit_of(params, "MaxKeys", "maxKeys")
    return page(partial(store.index.listed, bucket), prefix, delimiter, start, limit)


def _shown(store: LocalStore, params: Params, found: Page[Listed], *, owner: bool) -> dict[str, Any]:
    encode = encoder(params)
    shared: Mapping[str, Any] = {"Owner": store.owner} if owner else {}
    result: dict[str, Any] = {
        "Name": params["Bucket"],
        "Prefix": encode(params.get("Prefix", "")),
        "MaxKeys": limit_of(params, "MaxKeys", "maxKeys"),
        "IsTruncated": found.truncated,
        "Contents": [{**_row(row, encode), **shared} for row in found.rows],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in found.prefixes],
    }
    if params.get("Delimiter"):
        result["Delimiter"] = encode(params["Delimiter"])
    if "EncodingType" in params:
        result["EncodingType"] = params["EncodingType"]
    return result


def _row(row: Listed, encode: Callable[[str], str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "Key": encode(row.key),
        "LastModified": moment(row.modified),
        "ETag": f'"{row.etag}"',
        "Size": row.size,
        "StorageClass": "STANDARD",
    }
    if row.algorithm is not None:
        shown.update(ChecksumAlgorithm=[row.algorithm], ChecksumType=row.checksum_type)
    return shown


def _marker_of(token: str) -> str:
    try:
        marker = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        marker = ""
    if not marker:
        raise ObjectError("InvalidArgument", "The continuation token provided is incorrect",
                          ArgumentName="continuation-token", ArgumentValue=token)  # fmt: skip
    return marker

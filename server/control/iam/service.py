"""IAM as botocore's service model has it, and what its operations share: pages, documents on the wire, tags."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from server.control.operations import Context, Request
from server.control.service import Service
from server.errors import BadRequest
from server.identity.directory import Directory, Entity
from server.store.store import Resource

IAM = Service("iam")
PAGE = 100
"""Items of a page when MaxItems is not given."""

Item = TypeVar("Item")


def directory(context: Context) -> Directory:
    return Directory(context.store)


def paged(request: Request, member: str, items: Sequence[Item], key: Callable[[Item], str]) -> dict[str, Any]:
    """The page of `items`, whose `key` rises, that a request asks for. Raises BadRequest for a marker not ours."""
    after = _position(request["Marker"]) if "Marker" in request else ""
    rest = [item for item in items if key(item) > after]
    size = request.get("MaxItems", PAGE)
    if len(rest) <= size:
        return {member: rest, "IsTruncated": False}
    return {member: rest[:size], "IsTruncated": True, "Marker": _marker(key(rest[size - 1]))}


def _marker(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


def _position(marker: str) -> str:
    try:
        return base64.b64decode(marker.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise BadRequest("Invalid Marker: use the one that the previous page returned.", field="marker") from None


def encoded(document: str) -> str:
    """A policy document as IAM answers it (RFC 3986)."""
    return quote(document, safe="~")


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_map(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Raises BadRequest when a key comes twice or is AWS's own."""
    found: dict[str, str] = {}
    folded: set[str] = set()
    for tag in given:
        key = tag["Key"]
        if key.lower() in folded:
            raise BadRequest("Duplicate tag keys found. Please note that Tag keys are case insensitive.", field="tags")
        if key.lower().startswith("aws:"):
            raise BadRequest(f"Tag key {key!r}: keys that begin with aws: are AWS's own.", field="tags")
        folded.add(key.lower())
        found[key] = tag["Value"]
    return found


def view(entity: Entity, row: Resource, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A user, group or role as answers are projected from it; its policies are not part of it."""
    document = row.document
    boundary = document.get("PermissionsBoundary")
    shown = {name: value for name, value in document.items() if name != "PermissionsBoundary"}
    if "AssumeRolePolicyDocument" in shown:
        shown["AssumeRolePolicyDocument"] = encoded(shown["AssumeRolePolicyDocument"])
    if boundary:
        shown["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary}
    return {**shown, "Arn": row.arn, "CreateDate": row.created_at, "Tags": tag_list(tags) if tags else None}


def below(prefix: str) -> Callable[[Resource], bool]:
    """Whether a row's path begins with `prefix`."""
    return lambda row: str(row.document["Path"]).startswith(prefix)

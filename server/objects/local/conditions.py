"""If-Match and its kin: what a request asks to be so before it is done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from server.objects.errors import ObjectError
from server.objects.local.records import Stored, moment
from server.objects.operations import not_built


def _tags(text: str) -> list[str]:
    return [tag.strip().removeprefix("W/").strip('"') for tag in text.split(",")]


def _named(text: str, etag: str) -> bool:
    tags = _tags(text)
    return "*" in tags or etag in tags


def check_read(params: Mapping[str, Any], stored: Stored, prefix: str = "") -> None:
    """Raises PreconditionFailed or NotModified. For a copy's source, `prefix` is ``CopySource`` and nothing is 304."""
    match, none_match = params.get(f"{prefix}IfMatch"), params.get(f"{prefix}IfNoneMatch")
    since: datetime | None = params.get(f"{prefix}IfModifiedSince")
    until: datetime | None = params.get(f"{prefix}IfUnmodifiedSince")
    changed = moment(stored.modified)
    unchanged = ObjectError("PreconditionFailed" if prefix else "NotModified", Condition="If-None-Match")
    unchanged.headers = {"etag": f'"{stored.etag}"', "last-modified": format_datetime(changed, usegmt=True)}
    if match is not None:
        if not _named(match, stored.etag):
            raise ObjectError("PreconditionFailed", Condition="If-Match")
    elif until is not None and changed > until:
        raise ObjectError("PreconditionFailed", Condition="If-Unmodified-Since")
    if none_match is not None:
        if _named(none_match, stored.etag):
            raise unchanged
    elif since is not None and changed <= since:
        unchanged.details = {"Condition": "If-Modified-Since"}
        raise unchanged


def check_write(params: Mapping[str, Any], key: str, present: Stored | None) -> None:
    """Raises PreconditionFailed, NoSuchKey for If-Match on nothing, NotImplemented for an If-None-Match of ETags."""
    none_match, match = params.get("IfNoneMatch"), params.get("IfMatch")
    if none_match is not None:
        if none_match.strip() != "*":
            raise not_built("If-None-Match of a write other than *")
        if present is not None:
            raise ObjectError("PreconditionFailed", Condition="If-None-Match")
    if match is not None:
        if present is None:
            raise ObjectError("NoSuchKey", Key=key)
        if not _named(match, present.etag):
            raise ObjectError("PreconditionFailed", Condition="If-Match")

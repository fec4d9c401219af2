"""What a writer says of an object, from an operation's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from server.objects.errors import ObjectError
from server.objects.local.records import Details

DESCRIPTION = (
    "CacheControl ContentDisposition ContentEncoding ContentLanguage ContentType Expires Metadata Tagging"
)
"""Parameters that `described` reads."""

MAX_METADATA_BYTES = 2048
MAX_TAGS = 10
_HEADERS = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "Expires")
_TAG = re.compile(r"[\w\s+\-=.:/@]*")


def described(params: Mapping[str, Any]) -> Details:
    """Raises MetadataTooLarge, InvalidTag."""
    headers = {"ContentType": params.get("ContentType") or "binary/octet-stream"}
    headers.update({name: params[name] for name in _HEADERS if name in params})
    # The encoding of the transfer is none of the object's.
    encodings = [part.strip() for part in headers.get("ContentEncoding", "").split(",")]
    if kept := ",".join(part for part in encodings if part not in ("", "aws-chunked")):
        headers["ContentEncoding"] = kept
    else:
        headers.pop("ContentEncoding", None)
    metadata = dict(params.get("Metadata", {}))
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise ObjectError("MetadataTooLarge", Size=str(size), MaxSizeAllowed=str(MAX_METADATA_BYTES))
    return Details(headers=headers, metadata=metadata, tags=_tags_of_header(params.get("Tagging", "")))


def described_copy(params: Mapping[str, Any], source: Details) -> Details:
    """A copy's description: the source's, or what the request says where a directive is REPLACE."""
    own = described(params)
    kept = own if params.get("MetadataDirective") == "REPLACE" else source
    tags = own.tags if params.get("TaggingDirective") == "REPLACE" else source.tags
    return replace(
        kept, tags=tags, checksums=source.checksums, checksum_type=source.checksum_type, upload=source.upload
    )


def _tags_of_header(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    except ValueError:
        raise ObjectError(
            "InvalidArgument", "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
            "parameters without tag name duplicates.", ArgumentName="x-amz-tagging", ArgumentValue=text,
        ) from None  # fmt: skip
    return checked_tags(pairs)


def checked_tags(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Raises InvalidTag, or BadRequest for too many."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        if key in tags:
            raise ObjectError("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        if not 1 <= len(key) <= 128 or not _TAG.fullmatch(key) or key.startswith("aws:"):
            raise ObjectError("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if len(value) > 256 or not _TAG.fullmatch(value):
            raise ObjectError("InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value)
        tags[key] = value
    if len(tags) > MAX_TAGS:
        raise ObjectError("BadRequest", f"Object tags cannot be greater than {MAX_TAGS}", status=400)
    return tags

"""From an operation's result to headers and body, by the output shape of the service model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from server.objects.errors import ObjectError, xml_text

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_ROOTS = {
    "ListBuckets": "ListAllMyBucketsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "UploadPartCopy": "CopyPartResult",
    "DeleteObjects": "DeleteResult",
    "GetObjectTagging": "Tagging",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketEncryption": "ServerSideEncryptionConfiguration",
}
"""Root elements that are not the operation's name and "Result"; the service model does not have them."""

Headers = list[tuple[bytes, bytes]]


def status_of(operation: Any, result: Mapping[str, Any]) -> int:
    if "ContentRange" in result:
        return 206
    return int(operation.http.get("responseCode", 200))


def write_headers(operation: Any, result: Mapping[str, Any]) -> Headers:
    """Members that travel as headers."""
    headers: Headers = []
    members = operation.output_shape.members if operation.output_shape else {}
    for member, value in result.items():
        place = members[member].serialization
        if place.get("location") == "header":
            headers.append((place["name"].lower().encode(), _header(members[member], value)))
        elif place.get("location") == "headers":
            prefix = place["name"].lower()
            headers += [((prefix + name).encode("latin-1"), text.encode("latin-1")) for name, text in value.items()]
    return headers


def write_document(operation: Any, result: Mapping[str, Any]) -> bytes:
    """The XML body; empty for an operation whose output has none."""
    shape = operation.output_shape
    if shape is None:
        return b""
    payload = shape.serialization.get("payload")
    if payload is not None:
        shape, result = shape.members[payload], result.get(payload, {})
    root = _ROOTS.get(operation.name, f"{operation.name}Result")
    if operation.name == "GetBucketLocation":
        inner = xml_text(result.get("LocationConstraint") or "")
    elif any("location" not in member.serialization for member in shape.members.values()):
        inner = _structure(shape, result)
    else:
        return b""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{NAMESPACE}">{inner}</{root}>'
    return text.encode()


def _structure(shape: Any, value: Mapping[str, Any]) -> str:
    parts = []
    for name, member in shape.members.items():
        place = member.serialization
        if "location" in place or value.get(name) is None:
            continue
        tag = place.get("name", name)
        if member.type_name == "list" and place.get("flattened"):
            parts += [_tagged(tag, member.member, item) for item in value[name]]
        else:
            parts.append(_tagged(tag, member, value[name]))
    return "".join(parts)


def _tagged(tag: str, shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        inner = _structure(shape, value)
    elif shape.type_name == "list":
        item = shape.member.serialization.get("name", "member")
        inner = "".join(_tagged(item, shape.member, each) for each in value)
    else:
        inner = xml_text(_text(value))
    return f"<{tag}>{inner}</{tag}>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return str(value)


def _header(shape: Any, value: Any) -> bytes:
    if isinstance(value, datetime):
        if shape.serialization.get("timestampFormat") == "iso8601":
            return _text(value).encode()
        return format_datetime(value.astimezone(UTC), usegmt=True).encode()
    text = _text(value)
    if any(ord(character) < 32 for character in text):
        name = shape.serialization["name"]
        raise ObjectError("InvalidArgument", f"{name} cannot hold a control character.", ArgumentName=name)
    return text.encode("latin-1")

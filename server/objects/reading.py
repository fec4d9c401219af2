"""From a request to an operation's parameters, by the input shape of the service model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from botocore.utils import parse_timestamp

from server.objects.errors import ObjectError
from server.objects.operations import not_built
from server.objects.request import Request

Params = dict[str, Any]

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""A DeleteObjects of 1,000 keys of 1,024 bytes fits."""


def payload_member(operation: Any) -> str | None:
    """Name of the member that the body is; None when there is none."""
    payload = operation.input_shape.serialization.get("payload") if operation.input_shape else None
    return None if payload is None else str(payload)


def has_streaming_body(operation: Any) -> bool:
    name = payload_member(operation)
    return name is not None and operation.input_shape.members[name].type_name == "blob"


def own_checksums(operation: Any) -> list[str]:
    """Headers of checksums that are parameters, not of the body that comes along."""
    names = (member.serialization.get("name", "") for member in operation.input_shape.members.values())
    return [name.lower() for name in names if name.startswith("x-amz-checksum-")]


def read_parameters(operation: Any, request: Request) -> Params:
    """Every member that travels outside the body. Raises InvalidArgument that names the parameter."""
    params: Params = {}
    if operation.input_shape is None:
        return params
    for member, shape in operation.input_shape.members.items():
        place = shape.serialization
        location, name = place.get("location"), place.get("name", "")
        if location == "uri":
            params[member] = request.bucket if name == "Bucket" else request.key
        elif location == "header" and name.lower() in request.headers:
            params[member] = _scalar(shape, name, request.headers[name.lower()])
        elif location == "querystring" and name in request.query:
            params[member] = _scalar(shape, name, request.query[name])
        elif location == "headers":
            prefix = name.lower()
            found = {key[len(prefix):]: text for key, text in request.headers.items() if key.startswith(prefix)}
            if found:
                params[member] = found
    return params


def read_document(operation: Any, body: bytes) -> Params:
    """The body's XML as the payload member. Raises MalformedXML; an empty body is no member."""
    member = payload_member(operation)
    if member is None or not body:
        return {}
    try:
        text = body.decode()
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("a document type is not allowed")
        root = ElementTree.fromstring(text)
        shape = operation.input_shape.members[member]
        return {member: _element(shape, root)}
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ObjectError("MalformedXML", f"The XML you provided was not well-formed or did not validate against our "
                                          f"published schema: {error}") from None  # fmt: skip


def _element(shape: Any, node: ElementTree.Element) -> Any:
    if shape.type_name == "structure":
        return _structure(shape, node)
    if shape.type_name == "list":
        return [_element(shape.member, child) for child in node]
    return _text(shape, node.text or "")


def _structure(shape: Any, node: ElementTree.Element) -> Params:
    names = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
    found: Params = {}
    for child in node:
        tag = child.tag.rpartition("}")[2]
        if tag not in names:
            raise ValueError(f"{tag} is no element of {shape.name}")
        name, member = names[tag]
        if member.type_name == "list" and member.serialization.get("flattened"):
            found.setdefault(name, []).append(_element(member.member, child))
        elif name in found:
            raise ValueError(f"{tag} appears twice")
        else:
            found[name] = _element(member, child)
    if missing := [name for name in shape.required_members if name not in found]:
        raise ValueError(f"{shape.name} needs {', '.join(missing)}")
    return found


def _text(shape: Any, text: str) -> Any:
    kind = shape.type_name
    if kind in ("integer", "long"):
        return _integer(text)
    if kind == "boolean":
        return _boolean(text)
    if kind == "timestamp":
        return _timestamp(text)
    if shape.name == "BucketLocationConstraint" and text not in shape.enum:
        raise ObjectError("InvalidLocationConstraint", LocationConstraint=text)
    if kind == "string" and shape.enum and text not in shape.enum:
        raise ValueError(f"{text!r} is none of {', '.join(shape.enum)}")
    return text


def _scalar(shape: Any, name: str, text: str) -> Any:
    """Header or query parameter. `Expires` stays text: S3 keeps and returns it as it came."""
    if shape.name in ("Expires", "ResponseExpires"):
        return text
    try:
        return _text(shape, text)
    except ValueError as error:
        raise ObjectError("InvalidArgument", f"{name}: {error}", ArgumentName=name, ArgumentValue=text) from None


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text.strip()):
        raise ValueError("not an integer or within integer range")
    return int(text)


def _boolean(text: str) -> bool:
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text.strip().lower() == "true"


def _timestamp(text: str) -> datetime:
    try:
        moment: datetime = parse_timestamp(text)
    except (ValueError, OverflowError, RuntimeError):
        raise ValueError("not a date") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_IGNORED = {"RequestPayer", "ContentLength", "ContentMD5", "ChecksumAlgorithm", "ExpectedBucketOwner"}
"""Taken care of before an operation runs, or without meaning here."""

_NEUTRAL: Mapping[str, frozenset[Any]] = {
    "ACL": frozenset({"private", "bucket-owner-full-control"}),
    "StorageClass": frozenset({"STANDARD"}),
    "VersionId": frozenset({"null"}),
    "ObjectOwnership": frozenset({"BucketOwnerEnforced"}),
    "ObjectLockEnabledForBucket": frozenset({False}),
}
"""Values that ask for what happens anyway."""


def refuse_others(operation: Any, params: Params, built: frozenset[str]) -> None:
    """NotImplemented for a parameter that the operation would drop."""
    for name, value in params.items():
        if name in built or name in _IGNORED or (name in _NEUTRAL and value in _NEUTRAL[name]):
            continue
        place = operation.input_shape.members[name].serialization
        shown = value if isinstance(value, str) and name in _NEUTRAL else ""
        raise not_built(f"{place.get('name', name)}{': ' + shown if shown else ''} in {operation.name}")

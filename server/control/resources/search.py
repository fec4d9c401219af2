"""Search: every resource of a kind against an expression."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from server.control.conditions import check, holds, property_type, values
from server.control.kind import Kind
from server.control.operations import Answer, Context, Request
from server.control.paging import decode, encode, purpose
from server.control.resources.endpoint import KIND as ENDPOINT
from server.control.resources.model import KIND as MODEL
from server.control.resources.model_card import KIND as CARD
from server.control.resources.model_package import KIND as PACKAGE
from server.control.resources.model_package_group import KIND as GROUP
from server.control.sagemaker import SAGEMAKER
from server.errors import BadRequest
from server.store import tags
from server.store.listing import Position

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (ENDPOINT, MODEL, PACKAGE, GROUP, CARD)}
SIZE = 100
SORT = "LastModifiedTime"
FALLBACK = "CreationTime"
"""Sorts records that have no LastModifiedTime."""


@SAGEMAKER.operation
def search(context: Context, request: Request) -> Answer:
    kind = KINDS.get(request["Resource"])
    if kind is None:
        raise BadRequest(f"Resource {request['Resource']!r} cannot be searched yet; {', '.join(KINDS)} can.")
    if "VisibilityConditions" in request:
        raise BadRequest("VisibilityConditions: there is nobody to hide a resource from.")
    shape = _shape(kind)
    if expression := request.get("SearchExpression"):
        check(shape, expression)
    if request.get("CrossAccountFilterOption") == "CrossAccount":
        return {"Results": [], "TotalHits": {"Value": 0, "Relation": "EqualTo"}}
    sort = request.get("SortBy") or (SORT if SORT in shape.members else FALLBACK)
    property_type(shape, sort)
    descending = request.get("SortOrder", "Descending") == "Descending"
    found = [
        (_key(record, sort), number, record)
        for number, record in _records(context, kind)
        if not expression or holds(shape, expression, record)
    ]
    found.sort(key=lambda each: each[:2], reverse=descending)
    kept = purpose("Search", context.region, request["Resource"], expression, sort, descending)
    if "NextToken" in request:
        last = decode(request["NextToken"], kept)
        here = (last.value, last.id)
        found = [each for each in found if (each[:2] < here if descending else each[:2] > here)]
    return _page(kind, found, request.get("MaxResults", SIZE), kept)


def _page(kind: Kind, found: list[tuple[str, int, dict[str, Any]]], size: int, kept: str) -> Answer:
    shown = found[:size]
    token = encode(Position(shown[-1][0], shown[-1][1]), kept) if len(found) > size else None
    results = [{kind.name: {"Model": record} if kind is MODEL else record} for _, _, record in shown]
    return {"Results": results, "NextToken": token, "TotalHits": {"Value": len(found), "Relation": "EqualTo"}}


def _shape(kind: Kind) -> Any:
    """The shape of the kind's records."""
    record = SAGEMAKER.output("Search").members["Results"].member.members[kind.name]
    return record.members["Model"] if kind is MODEL else record


def _records(context: Context, kind: Kind) -> list[tuple[int, dict[str, Any]]]:
    tagged = tags.read_all(context.store, kind.name)
    return [
        (
            resource.id,
            {**kind.view(resource), "Tags": [{"Key": k, "Value": v} for k, v in tagged.get(resource.id, {}).items()]},
        )
        for resource in context.store.find(kind.name)
    ]


def _key(record: Mapping[str, Any], sort: str) -> str:
    """A text that sorts as the property does."""
    value = next(iter(values(record, sort)), None)
    if isinstance(value, datetime):
        return f"{value.timestamp():020.6f}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value + 1e15:030.6f}"
    return "" if value is None else str(value)

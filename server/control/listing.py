"""Every List: one function, told by the service model which filters and orders an operation has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from server.control import paging
from server.control.kind import Kind
from server.control.operations import Answer, Context, Request
from server.control.sagemaker import SAGEMAKER
from server.store.listing import Query, page

SIZE = 10
"""Results of a page when MaxResults is not given."""

_PAGING = frozenset(("MaxResults", "NextToken", "SortBy", "SortOrder"))
_MOMENTS: Mapping[str, str] = {
    "CreationTimeAfter": "created_after",
    "CreationTimeBefore": "created_before",
    "CreatedAfter": "created_after",
    "CreatedBefore": "created_before",
    "LastModifiedTimeAfter": "modified_after",
    "LastModifiedTimeBefore": "modified_before",
    "ModifiedTimeAfter": "modified_after",
    "ModifiedTimeBefore": "modified_before",
}
_ORDERS: Mapping[str, str] = {
    "Name": "name",
    "CreationTime": "created",
    "LastModifiedTime": "modified",
    "Status": "status",
}


def lists(kind: Kind) -> None:
    """Registers List. Raises LookupError where the model has a filter or an order that nothing here serves."""
    name = f"List{kind.listed}"
    shape = SAGEMAKER.input(name)
    known = {*_PAGING, *_MOMENTS, "NameContains", "StatusEquals", *kind.filters}
    orders = {**_ORDERS, **(kind.orders or {})}
    unserved = set(shape.members) - known | set(_values(shape, "SortBy")) - set(orders)
    if unserved:
        raise LookupError(f"{name}: nothing serves {', '.join(sorted(unserved))}")
    output = SAGEMAKER.output(name)
    results = next(member for member, inner in output.members.items() if inner.type_name == "list")

    def listing(context: Context, request: Request) -> Answer:
        query = Query(kind=kind.name, **_conditions(kind, orders, context, request))
        purpose = paging.purpose(name, context.region, query)
        after = paging.decode(request["NextToken"], purpose) if "NextToken" in request else None
        found = page(context.store, query, request.get("MaxResults", SIZE), after)
        token = paging.encode(found.next, purpose) if found.next is not None else None
        return {results: [kind.view(resource) for resource in found.resources], "NextToken": token}

    SAGEMAKER.register(name, listing)


def _conditions(kind: Kind, orders: Mapping[str, str], context: Context, request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {
        field: datetime.fromtimestamp(request[member], UTC) for member, field in _MOMENTS.items() if member in request
    }
    if "NameContains" in request:
        found["contains"] = request["NameContains"]
    if "StatusEquals" in request:
        found["statuses"] = (request["StatusEquals"],)
    default = next(iter(kind.orders)) if kind.orders else "CreationTime"
    found["order"] = orders[request.get("SortBy", default)]
    found["descending"] = request.get("SortOrder", "Ascending" if kind.ascending else "Descending") == "Descending"
    if kind.narrow is not None:
        found |= kind.narrow(context, request)
    return found


def _values(shape: Any, member: str) -> list[str]:
    return list(shape.members[member].enum) if member in shape.members else []

"""Model package groups: what the versions of one model are gathered in."""

from __future__ import annotations

from server.control.kind import Kind, creates, deletes, describes
from server.control.listing import lists
from server.control.operations import Context, Request
from server.errors import InUse
from server.store.listing import Query, page
from server.store.store import Resource

SHARED = {"SharedFrom": "another account"}
"""A facet that nothing has: no account shares anything with another here."""


def _narrow(_context: Context, request: Request) -> dict[str, object]:
    return {"facets": SHARED} if request.get("CrossAccountFilterOption") == "CrossAccount" else {}


def _empty(context: Context, group: Resource) -> None:
    if page(context.store, Query("ModelPackage", facets={"ModelPackageGroupName": group.name}), 1).resources:
        raise InUse(
            f'Model package group "{group.arn}" cannot be deleted because it still contains model packages; '
            "delete those first."
        )


KIND = Kind(
    name="ModelPackageGroup",
    title="model package group",
    initial="Completed",
    ascending=True,
    filters=("CrossAccountFilterOption",),
    narrow=_narrow,
)

creates(KIND)
describes(KIND)
lists(KIND)
deletes(KIND, _empty)

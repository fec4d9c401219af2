"""Pages of resources: filtered, sorted and cut in SQL, by position so that a page stays put as others come and go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, and_, func, literal, select, tuple_
from sqlalchemy.orm import aliased

from server.store.store import Resource, Store, read
from server.store.tables import FacetRow, ResourceRow

Order = Literal["name", "created", "modified", "status"]

_COLUMNS: Mapping[Order, Any] = {
    "name": ResourceRow.name,
    "created": ResourceRow.created_at,
    "modified": ResourceRow.modified_at,
    "status": ResourceRow.status,
}


@dataclass(frozen=True, slots=True)
class Query:
    """Which resources of a kind, in which order."""

    kind: str
    contains: str | None = None
    """Part of the name, in any case of its letters."""
    statuses: tuple[str, ...] = ()
    facets: Mapping[str, str] = field(default_factory=dict)
    """Values by key, the rarest first."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    modified_after: datetime | None = None
    modified_before: datetime | None = None
    order: Order = "created"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """The last resource of a page: its value in the order, and its id."""

    value: str | datetime
    id: int


@dataclass(frozen=True, slots=True)
class Page:
    resources: tuple[Resource, ...]
    next: Position | None
    """Where the page after this one begins; None at the end."""


def page(store: Store, query: Query, size: int, after: Position | None = None) -> Page:
    """At most `size` resources behind `after`."""
    with store.session() as session:
        rows = session.scalars(_sorted(_filtered(store, query), query, after).limit(size + 1))
        found = tuple(read(row) for row in rows)
    if len(found) <= size:
        return Page(found, None)
    last = found[size - 1]
    return Page(found[:size], Position(getattr(last, _COLUMNS[query.order].key), last.id))


def _filtered(store: Store, query: Query) -> Select[ResourceRow]:
    row = ResourceRow
    found = select(row).where(row.account == store.account, row.region == store.region, row.kind == query.kind)
    if query.contains is not None:
        found = found.where(func.lower(row.name).contains(query.contains.lower(), autoescape=True))
    if query.statuses:
        found = found.where(row.status.in_(query.statuses))
    for number, (key, value) in enumerate(query.facets.items()):
        if number == 0:
            found = found.join(FacetRow, FacetRow.resource_id == row.id)
            found = found.where(FacetRow.key == key, FacetRow.value == value)
        else:
            other = aliased(FacetRow)
            keyed = and_(other.resource_id == row.id, other.key == key, other.value == value)
            found = found.where(select(other).where(keyed).exists())
    for column, low, high in (
        (row.created_at, query.created_after, query.created_before),
        (row.modified_at, query.modified_after, query.modified_before),
    ):
        if low is not None:
            found = found.where(column >= low)
        if high is not None:
            found = found.where(column < high)
    return found


def _sorted(found: Select[ResourceRow], query: Query, after: Position | None) -> Select[ResourceRow]:
    columns, values = _order(query, after)
    if values:
        here, there = tuple_(*columns), tuple_(*values)
        found = found.where(here < there if query.descending else here > there)
    return found.order_by(*(each.desc() if query.descending else each for each in columns))


def _order(query: Query, after: Position | None) -> tuple[list[Any], list[Any]]:
    """The columns to sort by, so that an index has them in that order, and their values at `after`."""
    column = _COLUMNS[query.order]
    last = [] if after is None else [literal(after.value, column.type), literal(after.id)]
    if query.order == "name":  # unique here
        return [column], last[:1]
    if query.order == "created" and (query.facets or query.statuses):  # ids rise with time, and those are kept by id
        return [FacetRow.resource_id if query.facets else ResourceRow.id], last[1:]
    return [column, ResourceRow.id], last

"""Tags of resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import delete, select

from server.errors import LimitExceeded
from server.store.store import Resource, Store
from server.store.tables import ResourceRow, TagRow

MOST = 50
"""Tags of one resource, as AWS has it."""


def read(store: Store, resource: Resource) -> dict[str, str]:
    """Tags by key, in the order of their keys."""
    with store.session() as session:
        rows = session.scalars(select(TagRow).where(TagRow.resource_id == resource.id))
        return dict(sorted((row.key, row.value) for row in rows))


def read_all(store: Store, kind: str) -> dict[int, dict[str, str]]:
    """Tags of all resources of a kind that have any, by the resource's id."""
    query = (
        select(TagRow)
        .join(ResourceRow, ResourceRow.id == TagRow.resource_id)
        .where(ResourceRow.account == store.account, ResourceRow.region == store.region, ResourceRow.kind == kind)
        .order_by(TagRow.key)
    )
    found: dict[int, dict[str, str]] = {}
    with store.session() as session:
        for row in session.scalars(query):
            found.setdefault(row.resource_id, {})[row.key] = row.value
    return found


def add(store: Store, resource: Resource, tags: Mapping[str, str]) -> dict[str, str]:
    """Adds or overwrites, and gives all tags. Raises LimitExceeded when there would be too many."""
    with store.transaction() as unit, unit.session() as session:
        session.execute(delete(TagRow).where(TagRow.resource_id == resource.id, TagRow.key.in_(tags)))
        session.add_all(TagRow(resource_id=resource.id, key=key, value=value) for key, value in tags.items())
        session.flush()
        found = read(unit, resource)
        if len(found) > MOST:
            raise LimitExceeded(f"{resource.arn} would have {len(found)} tags; at most {MOST} are allowed.")
        return found


def remove(store: Store, resource: Resource, keys: Iterable[str]) -> None:
    """Removes what is there of `keys`."""
    with store.session() as session:
        session.execute(delete(TagRow).where(TagRow.resource_id == resource.id, TagRow.key.in_(list(keys))))

"""Events: what changed, in order, for whoever follows. Written with the change itself, so none is lost or made up."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from server.store.tables import EventRow, SubscriberRow, TagRow, utc

if TYPE_CHECKING:
    from server.store.store import Resource

KINDS = frozenset(("Model", "EndpointConfig", "Endpoint", "ModelPackage"))
"""Kinds of resources whose changes are noted."""
KEPT = 20_000
"""Events that are kept; the oldest go."""
PRUNED_EVERY = 100
ORDER_LOCK = 0x48454152_5448
"""PostgreSQL's advisory lock under which ids are given, so that they rise in the order of commits. SQLite has one
writer at a time anyway."""

Change = Literal["created", "changed", "reported", "removed"]
"""What was asked for is new, or another; its status is another; it is gone."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `id` is its place in the order, `uuid` its name for ever; the rest is the resource after it (before
    it, where it was removed)."""

    id: int
    uuid: str
    change: Change
    at: datetime
    account: str
    region: str
    kind: str
    name: str
    arn: str
    document: Mapping[str, Any]
    tags: Mapping[str, str]
    status: str
    reason: str | None
    created_at: datetime
    modified_at: datetime


def note(session: Session, account: str, resource: Resource, change: Change) -> None:
    """Adds an event to the transaction of `session`, where the resource is of a kind that is followed."""
    if resource.kind not in KINDS:
        return
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(ORDER_LOCK)))
    tags = session.scalars(select(TagRow).where(TagRow.resource_id == resource.id).order_by(TagRow.key))
    row = EventRow(
        uuid=str(uuid.uuid4()), change=change, at=datetime.now(UTC), account=account, region=resource.region,
        kind=resource.kind, name=resource.name, arn=resource.arn, document=dict(resource.document),
        tags={tag.key: tag.value for tag in tags}, status=resource.status, reason=resource.reason,
        created_at=resource.created_at, modified_at=resource.modified_at,
    )  # fmt: skip
    session.add(row)
    session.flush()
    if row.id % PRUNED_EVERY == 0:
        session.execute(delete(EventRow).where(EventRow.id <= row.id - KEPT))


def page(session: Session, account: str, after: int, most: int) -> list[Event]:
    """The next events behind the id `after`, at most `most`, the oldest first."""
    query = select(EventRow).where(EventRow.account == account, EventRow.id > after).order_by(EventRow.id).limit(most)
    return [_event(row) for row in session.scalars(query)]


def before(session: Session, account: str, last: int) -> int:
    """The id behind which the newest `last` events are; of 0, that of the newest."""
    query = select(EventRow.id).where(EventRow.account == account).order_by(EventRow.id.desc())
    return session.scalar(query.offset(last).limit(1)) or 0


def position(session: Session, account: str, subscriber: str) -> int | None:
    """The id of the last event that a subscriber is done with; None for one that never came."""
    row = session.get(SubscriberRow, (account, subscriber))
    return None if row is None else row.position


def done(session: Session, account: str, subscriber: str, event: int) -> None:
    """Keeps how far a subscriber has come."""
    session.merge(SubscriberRow(account=account, name=subscriber, position=event))


def _event(row: EventRow) -> Event:
    return Event(
        id=row.id, uuid=row.uuid, change=cast("Change", row.change), at=utc(row.at), account=row.account,
        region=row.region, kind=row.kind, name=row.name, arn=row.arn, document=row.document, tags=row.tags,
        status=row.status, reason=row.reason, created_at=utc(row.created_at), modified_at=utc(row.modified_at),
    )  # fmt: skip

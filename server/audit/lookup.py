"""Reads events back: the newest first by what they are looked up by, or in the order in which they were written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Select, select, tuple_
from sqlalchemy.orm import Session

from server.store.tables import AuditEventRow, AuditResourceRow

Position = tuple[int, int]
"""Time and number of the last event of a page."""

_COLUMNS: Mapping[str, Any] = {
    "EventName": AuditEventRow.name,
    "EventSource": AuditEventRow.source,
    "Username": AuditEventRow.username,
    "AccessKeyId": AuditEventRow.access_key,
    "EventId": AuditEventRow.event_id,
    "ReadOnly": AuditEventRow.read_only,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: attributes as LookupEvents calls them, times in seconds since 1970, both ends included.

    `management` None: of both categories. `account` and `region` None: of all.
    """

    account: str | None = None
    region: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    management: bool | None = True


@dataclass(frozen=True, slots=True)
class Found:
    seq: int
    time: int
    username: str
    event: Mapping[str, Any]
    text: str
    """The event's JSON."""


def newest(
    engine: Engine, wanted: Wanted, size: int, after: Position | None = None
) -> tuple[list[Found], Position | None]:
    """At most `size` events behind `after`, and where the next page begins."""
    time, seq = _place(wanted)
    query = _filtered(wanted)
    if after is not None:
        query = query.where(tuple_(time, seq) < tuple_(*after))
    page = query.order_by(time.desc(), seq.desc()).limit(size + 1).subquery()
    row = AuditEventRow
    # The page is cut on an index alone; whole events are read for it only.
    whole = select(row.seq, row.time, row.username, row.event).join(page, page.c.seq == row.seq)
    with Session(engine) as session:
        rows = session.execute(whole.order_by(row.time.desc(), row.seq.desc())).all()
    found = [_found(each) for each in rows[:size]]
    return found, (found[-1].time, found[-1].seq) if len(rows) > size else None


def following(engine: Engine, wanted: Wanted, after: int, size: int = 500) -> Iterator[Found]:
    """Events with a number above `after`, in order."""
    row = AuditEventRow
    while True:
        page = _filtered(wanted).where(_place(wanted)[1] > after).subquery()
        query = select(row.seq, row.time, row.username, row.event).join(page, page.c.seq == row.seq)
        with Session(engine) as session:
            rows = session.execute(query.order_by(row.seq).limit(size)).all()
        for each in rows:
            yield _found(each)
        if len(rows) < size:
            return
        after = rows[-1].seq


def _by_resource(wanted: Wanted) -> bool:
    return any(key in ("ResourceName", "ResourceType") for key in wanted.attributes)


def _place(wanted: Wanted) -> tuple[Any, Any]:
    """Time and number, in the table whose index has the order."""
    table = AuditResourceRow if _by_resource(wanted) else AuditEventRow
    return table.time, table.seq


def _filtered(wanted: Wanted) -> Select[Any]:
    """Numbers of the events, each once."""
    row, touched = AuditEventRow, _by_resource(wanted)
    time, seq = _place(wanted)
    place = AuditResourceRow if touched else row
    query: Select[Any] = select(seq, time)
    if touched:  # only control calls have resources there
        query = query.distinct()
        if wanted.attributes.keys() - {"ResourceName", "ResourceType"}:
            query = query.join(row, row.seq == seq)
    elif wanted.management is not None:
        query = query.where(row.management == wanted.management)
    for column, value in ((place.account, wanted.account), (place.region, wanted.region)):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(time >= wanted.since)
    if wanted.until is not None:
        query = query.where(time <= wanted.until)
    return query.where(*(_matches(key, value) for key, value in wanted.attributes.items()))


def _matches(key: str, value: str) -> Any:
    """A resource may be named by its name or its ARN."""
    if key == "ResourceType":
        return AuditResourceRow.type == value
    if key == "ResourceName":
        return (AuditResourceRow.arn if value.startswith("arn:") else AuditResourceRow.name) == value
    return _COLUMNS[key] == (value.lower() == "true" if key == "ReadOnly" else value)


def _found(row: Any) -> Found:
    return Found(row.seq, row.time, row.username, json.loads(row.event), row.event)

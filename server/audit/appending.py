"""Adds events to the chain in the store: one transaction for a batch, whoever else writes at the same time.

The head's row is the lock. Changing it first makes SQLite take its write lock and PostgreSQL that row's, so batches
of all processes follow one another and the log is one chain with one order.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from server.audit.chain import GENESIS, HEAD, START, Mark, digest
from server.audit.event import Record, service_record
from server.audit.keeper import Keeper
from server.audit.rows import event_row, resource_rows
from server.store.tables import AuditEventRow, AuditMarkRow, AuditResourceRow

log = structlog.get_logger(__name__)

BROKEN = "AuditLogBroken"
"""The name of the event that says that the log in front of it was changed."""
_RESTARTS = 5


def append(session: Session, keeper: Keeper, key: bytes, records: Sequence[Record]) -> Mark:
    """Adds `records` in the session's transaction, which is held from here on; gives the new head.

    A head that is not genuine is not carried on: the chain begins anew behind an event that says so.
    """
    head = locked_head(session, key)
    trouble = distrust(session, head, keeper, key)
    if trouble is not None:
        log.error("the audit log was changed; `hearth audit verify` says where", problem=trouble)
        records = [_broken(records[0], trouble), *records]
        head = Mark.signed(key, HEAD, _highest(session, keeper), GENESIS)
    elif head.seq == 0:
        keeper.note(head)
    return extend(session, key, head, records)


def extend(session: Session, key: bytes, head: Mark, records: Sequence[Record]) -> Mark:
    """Adds `records` behind `head`, which the caller has locked and trusts; gives the new head."""
    seq, last = head.seq, head.digest
    events, resources = [], []
    for record in records:
        seq += 1
        row = event_row(record)
        last = digest(last, seq, row["event"])
        events.append({**row, "seq": seq, "digest": last})
        resources += [{**each, "seq": seq} for each in resource_rows(record)]
    session.execute(insert(AuditEventRow), events)
    if resources:
        session.execute(insert(AuditResourceRow), resources)
    return move(session, Mark.signed(key, HEAD, seq, last))


def locked_head(session: Session, key: bytes) -> Mark:
    """The head, which nobody else can change until the transaction ends. Makes both marks of an empty log."""
    for _ in range(_RESTARTS):
        session.execute(update(AuditMarkRow).where(AuditMarkRow.name == HEAD).values(name=HEAD))
        found = mark(session, HEAD)
        if found is not None:
            return found
        try:
            with session.begin_nested():
                for name in (START, HEAD):
                    if mark(session, name) is None:
                        session.execute(insert(AuditMarkRow).values(_values(Mark.signed(key, name, 0, GENESIS))))
        except IntegrityError:
            continue  # another process was first
    raise RuntimeError("the audit log's marks come and go")


def mark(session: Session, name: str) -> Mark | None:
    found = session.execute(
        select(AuditMarkRow.name, AuditMarkRow.seq, AuditMarkRow.digest, AuditMarkRow.mac)
        .where(AuditMarkRow.name == name)
    ).one_or_none()  # fmt: skip
    return None if found is None else Mark(*found)


def move(session: Session, to: Mark) -> Mark:
    session.execute(update(AuditMarkRow).where(AuditMarkRow.name == to.name).values(_values(to)))
    return to


def distrust(session: Session, head: Mark, keeper: Keeper, key: bytes) -> str | None:
    """Why `head` cannot be the log's end; None: it can."""
    if not head.genuine(key):
        return f"the head at event {head.seq} does not carry the key's signature"
    rows = select(AuditEventRow.seq, AuditEventRow.digest).order_by(AuditEventRow.seq.desc()).limit(1)
    newest = session.execute(rows).one_or_none()
    if (head.seq, head.digest) != ((0, GENESIS) if newest is None else tuple(newest)):
        return f"the head is at event {head.seq}, the newest one there is {newest.seq if newest else 'none'}"
    return _behind(head, keeper, key)


def _behind(head: Mark, keeper: Keeper, key: bytes) -> str | None:
    """What the mark outside the database says against `head`."""
    try:
        known = keeper.head()
    except ValueError as error:
        return f"{keeper.head_file} is damaged: {error}"
    if known is None:
        return None if head.seq == 0 else f"{keeper.head_file} is missing"
    if not known.genuine(key):
        return f"{keeper.head_file} does not carry the key's signature"
    if known.seq > head.seq or (known.seq == head.seq and known.digest != head.digest):
        return f"the log was put back: its head is at event {head.seq}, and event {known.seq} had been written"
    return None


def _highest(session: Session, keeper: Keeper) -> int:
    """The largest number that any part of the log names."""
    try:
        known = keeper.head()
    except ValueError:
        known = None
    rows = session.scalar(select(func.max(AuditEventRow.seq))) or 0
    marks = session.scalar(select(func.max(AuditMarkRow.seq))) or 0
    return max(rows, marks, known.seq if known else 0)


def _broken(example: Record, trouble: str) -> Record:
    return service_record(example["recipientAccountId"], example["awsRegion"], BROKEN, {"problem": trouble})


def _values(mark: Mark) -> dict[str, object]:
    return {"name": mark.name, "seq": mark.seq, "digest": mark.digest, "mac": mark.mac}

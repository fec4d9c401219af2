"""Removes whole days that are older than the log is kept. What went is said by an event in the log, and the signed
start moves behind it, so that the rest still verifies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from server.audit import appending
from server.audit.chain import HEAD, START, Mark
from server.audit.event import moment, service_record
from server.audit.keeper import Keeper
from server.store.tables import AuditEventRow, AuditResourceRow

REMOVED = "AuditEventsRemoved"


def remove_old(engine: Engine, keeper: Keeper, keep_days: int, account: str, region: str, now: datetime) -> int:
    """Removes the events of days more than `keep_days` ago; gives how many. Raises KeyProblem."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=keep_days)
    with Session(engine) as session, session.begin():
        if appending.mark(session, HEAD) is None:
            return 0
        key = keeper.key()
        head = appending.locked_head(session, key)
        start = appending.mark(session, START)
        if appending.distrust(session, head, keeper, key) or start is None or not start.genuine(key):
            return 0  # evidence is not removed
        last = _last_before(session, int(day.timestamp()), start.seq, head.seq)
        if last is None:
            return 0
        end = Mark.signed(key, START, last.seq, last.digest)
        session.execute(delete(AuditResourceRow).where(AuditResourceRow.seq <= last.seq))
        session.execute(delete(AuditEventRow).where(AuditEventRow.seq <= last.seq))
        appending.move(session, end)
        details = {"before": moment(day), "firstEvent": start.seq + 1, "lastEvent": last.seq, "lastDigest": last.digest}
        note = service_record(account, region, REMOVED, details)
        newest = appending.extend(session, key, head, [note])
    keeper.note(newest)
    return last.seq - start.seq


def _last_before(session: Session, day: int, start: int, head: int) -> Mark | None:
    """The event in front of the first one that is kept; None when nothing is to be removed."""
    kept = select(AuditEventRow.seq).where(AuditEventRow.time >= day).order_by(AuditEventRow.seq).limit(1)
    seq = (session.scalar(kept) or head + 1) - 1
    if seq <= start:
        return None
    row = session.execute(select(AuditEventRow.digest).where(AuditEventRow.seq == seq)).one_or_none()
    return None if row is None else Mark("", seq, row.digest, "")

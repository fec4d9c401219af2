"""Walks the log and finds the first event that is not as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from server.audit.appending import BROKEN, mark
from server.audit.chain import GENESIS, HEAD, START, Mark, digest
from server.audit.event import Record
from server.audit.keeper import Keeper
from server.audit.rows import event_row, resource_rows
from server.store.tables import AuditEventRow, AuditMarkRow, AuditResourceRow

STEP = 5000
"""Events read at a time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`bad` is the number of the first event that is wrong; `problem` is None when all is as it was written."""

    events: int
    first: int
    last: int
    digest: str
    bad: int | None = None
    problem: str | None = None


class _Bad(Exception):
    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(problem)
        self.seq = seq


Progress = Callable[[int, int], None]


def verify(engine: Engine, keeper: Keeper, progress: Progress | None = None) -> Verdict:
    """`progress` hears how many events of how many were checked. Raises KeyProblem without a key."""
    while True:
        start = _start(engine)
        found = _verify(engine, keeper, progress)
        if found.problem is None or _start(engine) == start:  # else retention went by meanwhile
            return found


def _start(engine: Engine) -> int:
    with Session(engine) as session:
        found = mark(session, START)
    return 0 if found is None else found.seq


def _verify(engine: Engine, keeper: Keeper, progress: Progress | None) -> Verdict:
    with Session(engine) as session:
        if session.scalar(select(AuditMarkRow.name).limit(1)) is None and not keeper.head_file.exists():
            if (row := session.scalar(select(AuditEventRow.seq).order_by(AuditEventRow.seq).limit(1))) is not None:
                return Verdict(0, 0, 0, GENESIS, row, "the log's marks are missing")
            return Verdict(0, 0, 0, GENESIS)
        key = keeper.key()
        known, trouble = _known(keeper, key)
        # The head last: a writer may go on meanwhile, and what it adds is behind the head that was read.
        try:
            start, head = _marks(session, key)
        except _Bad as error:
            return Verdict(0, 0, 0, GENESIS, error.seq, str(error))
        walk = _Walk(session, start, head, known, progress)
        try:
            walk.run()
            if trouble:
                raise _Bad(head.seq, trouble)
        except _Bad as error:
            return Verdict(walk.checked, start.seq + 1, walk.seq, walk.digest, error.seq, str(error))
        return Verdict(walk.checked, start.seq + 1, walk.seq, walk.digest)


def _known(keeper: Keeper, key: bytes) -> tuple[Mark | None, str | None]:
    """The mark outside the database, and what is wrong with it."""
    try:
        known = keeper.head()
    except ValueError as error:
        return None, f"{keeper.head_file} is damaged: {error}"
    if known is None:
        return None, f"{keeper.head_file} is missing"
    return (known, None) if known.genuine(key) else (None, f"{keeper.head_file} does not carry the key's signature")


def _marks(session: Session, key: bytes) -> tuple[Mark, Mark]:
    found = []
    for name in (START, HEAD):
        each = mark(session, name)
        if each is None:
            raise _Bad(0, f"the {name} mark is missing")
        if not each.genuine(key):
            raise _Bad(each.seq, f"the {name} mark does not carry the key's signature")
        found.append(each)
    return found[0], found[1]


class _Walk:
    def __init__(
        self, session: Session, start: Mark, head: Mark, known: Mark | None, progress: Progress | None
    ) -> None:
        self.checked = 0
        self.seq, self.digest = start.seq, start.digest
        self._session = session
        self._start, self._head, self._known = start, head, known
        self._progress = progress

    def run(self) -> None:
        """Raises _Bad at the first event that is wrong."""
        known = self._known
        if known is not None and known.seq > self._head.seq:
            raise _Bad(self._head.seq + 1, f"the log was put back: event {known.seq} had been written")
        while self.seq < self._head.seq:
            self._step()
            if self._progress is not None:
                self._progress(self.checked, self._head.seq - self._start.seq)
        if self.digest != self._head.digest:
            raise _Bad(self.seq, "the head names another digest")
        stray = self._session.scalar(
            select(AuditEventRow.seq).where(AuditEventRow.seq <= self._start.seq).order_by(AuditEventRow.seq).limit(1)
        )
        if stray is not None:
            raise _Bad(stray, "an event in front of the log's start")

    def _step(self) -> None:
        low, high = self.seq, min(self.seq + STEP, self._head.seq)
        between = (AuditEventRow.seq > low, AuditEventRow.seq <= high)
        rows = self._session.execute(select(*_EVENT).where(*between).order_by(AuditEventRow.seq))
        resources = _resources(self._session, low, high)
        for row in rows:
            self._check(tuple(row), resources.pop(row.seq, []))
        if self.seq < high:
            raise _Bad(self.seq + 1, "missing")
        if resources:
            raise _Bad(min(resources), "resources of no event")

    def _check(self, row: tuple[Any, ...], resources: list[tuple[Any, ...]]) -> None:
        seq, given, *columns = row
        if seq != self.seq + 1:
            raise _Bad(self.seq + 1, "missing")
        text = columns[_TEXT]
        record, said, touched = _parsed(seq, text)
        if record["eventName"] == BROKEN and record["eventType"] == "AwsServiceEvent":
            raise _Bad(seq, f"the log was changed in front of it: {record['serviceEventDetails']['problem']}")
        if given != digest(self.digest, seq, text):
            raise _Bad(seq, "its digest does not follow from it and the event before it: one of them was changed")
        if columns != said or resources != touched:
            raise _Bad(seq, "what it is looked up by is not what it says")
        known = self._known
        if known is not None and known.seq == seq and known.digest != given:
            raise _Bad(seq, "another event had been written under this number")
        self.seq, self.digest = seq, given
        self.checked += 1


def _parsed(seq: int, text: str) -> tuple[Record, list[Any], list[tuple[Any, ...]]]:
    """The event, and its columns as they should be. Raises _Bad for what is no event."""
    try:
        record: Record = json.loads(text)
        said = event_row(record)
        touched = [tuple(each[name] for name in _TOUCHED) for each in resource_rows(record)]
        record["eventType"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Bad(seq, "it is no event") from None
    return record, [said[name] for name in _SAID], touched


def _resources(session: Session, low: int, high: int) -> dict[int, list[tuple[Any, ...]]]:
    """Resources as they are, by the number of their event."""
    row = AuditResourceRow
    columns = [row.seq, *(getattr(row, name) for name in _TOUCHED)]
    query = select(*columns).where(row.seq > low, row.seq <= high).order_by(row.seq, row.number)
    found: dict[int, list[tuple[Any, ...]]] = {}
    for each in session.execute(query):
        found.setdefault(each[0], []).append(tuple(each[1:]))
    return found


_SAID = [column.key for column in AuditEventRow.__table__.columns if column.key not in ("seq", "digest")]
_TOUCHED = [column.key for column in AuditResourceRow.__table__.columns if column.key != "seq"]
_TEXT = _SAID.index("event")
_EVENT = [AuditEventRow.seq, AuditEventRow.digest, *(getattr(AuditEventRow, name) for name in _SAID)]

"""The audit log's writer in one process: a queue, and a thread that commits what waits in it as one batch.

`commit` returns once its event is on disk; concurrent callers share a transaction, so they share its sync. `record`
does not wait: such events are on disk within `flush_s`, and beyond `bound` waiting ones they are dropped, counted,
and the log itself says how many.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from server.audit import appending
from server.audit.chain import HEAD, Mark
from server.audit.event import Record, service_record
from server.audit.keeper import Keeper, KeyProblem
from server.errors import Unavailable

log = structlog.get_logger(__name__)

DROPPED = "AuditEventsDropped"
"""The name of the event that says how many are missing here because too many waited."""
FLUSH_S = 1.0
BATCH = 500
BOUND = 10_000
COMMIT_S = 10.0
"""How long a call waits for its event to be on disk."""
RETRY_S = 1.0


@dataclass(slots=True)
class _Waiting:
    record: Record
    urgent: bool
    since: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    written: bool = False


class AuditLog:
    """Events go in from any thread. `close` writes what waits."""

    def __init__(self, engine: Engine, keeper: Keeper, *, flush_s: float = FLUSH_S, bound: int = BOUND) -> None:
        self.dropped = 0
        """Events that were dropped since this writer started."""
        self._engine = engine
        self._keeper = keeper
        self._flush_s = flush_s
        self._bound = bound
        self._untold = 0
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def record(self, record: Record) -> bool:
        """Has an event written soon; False when it was dropped."""
        with self._changed:
            if len(self._queue) >= self._bound or self._closing:
                self._drop(1)
                return False
            self._queue.append(_Waiting(record, urgent=False))
            if len(self._queue) in (1, BATCH):
                self._changed.notify()
        return True

    def commit(self, record: Record, timeout_s: float = COMMIT_S) -> None:
        """Returns once the event is on disk. Raises Unavailable when it could not be written in time."""
        waiting = _Waiting(record, urgent=True)
        with self._changed:
            if len(self._queue) >= self._bound or self._closing:
                self._drop(1)
                raise _unavailable()
            self._queue.append(waiting)
            self._changed.notify()
        if not waiting.done.wait(timeout_s) or not waiting.written:
            raise _unavailable()

    def close(self, timeout_s: float = COMMIT_S) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _drop(self, count: int) -> None:
        if not self._untold:
            log.error("audit events are dropped: too many wait to be written", bound=self._bound)
        self._untold += count
        self.dropped += count

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if not self._flush(batch):
                self._put_back(batch)
                with self._changed:
                    if self._closing:
                        log.error("audit events are lost at the end", count=len(self._queue))
                        return
                    self._changed.wait_for(lambda: self._closing, RETRY_S)

    def _next(self) -> list[_Waiting] | None:
        """What is to be written now; None at the end."""
        with self._changed:
            while not self._due():
                if self._closing:
                    return None
                oldest = self._queue[0].since if self._queue else None
                self._changed.wait(None if oldest is None else max(0.0, oldest + self._flush_s - time.monotonic()))
            return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]

    def _due(self) -> bool:
        if not self._queue:
            return False
        if self._closing or len(self._queue) >= BATCH or self._queue[-1].urgent:
            return True
        return time.monotonic() - self._queue[0].since >= self._flush_s or any(each.urgent for each in self._queue)

    def _flush(self, batch: list[_Waiting]) -> bool:
        """False: try again later. A call that waits is told in either case."""
        try:
            self._write([each.record for each in batch])
        except (Unavailable, KeyProblem, OSError) as error:
            log.error("the audit log cannot be written", error=str(error), waiting=len(batch))
            self._tell(batch, written=False)
            return False
        except Exception:
            log.exception("a batch of audit events was refused; each is tried by itself")
            for each in batch:
                self._flush_one(each)
            return True
        self._tell(batch, written=True)
        return True

    def _flush_one(self, waiting: _Waiting) -> None:
        """An event that the database does not take must not keep the others from it."""
        try:
            self._write([waiting.record])
        except Exception:
            log.exception("an audit event is dropped: it cannot be written", audit_event=waiting.record)
            with self._changed:
                self._drop(1)
            self._tell([waiting], written=False)
        else:
            self._tell([waiting], written=True)

    def _write(self, records: Sequence[Record]) -> None:
        told = self._untold
        if told:
            first = records[0]
            note = service_record(first["recipientAccountId"], first["awsRegion"], DROPPED, {"count": told})
            records = [note, *records]
        self._keeper.note(_append(self._engine, self._keeper, records))
        with self._changed:
            self._untold -= told

    def _tell(self, batch: Sequence[_Waiting], *, written: bool) -> None:
        for each in batch:
            each.written = written
            each.urgent = False
            each.done.set()

    def _put_back(self, batch: list[_Waiting]) -> None:
        """To the front, as far as there is room: the newest of them are dropped first."""
        with self._changed:
            room = max(0, self._bound - len(self._queue))
            if len(batch) > room:
                self._drop(len(batch) - room)
            self._queue.extendleft(reversed(batch[:room]))


def _append(engine: Engine, keeper: Keeper, records: Sequence[Record]) -> Mark:
    with Session(engine) as session, session.begin():
        key = keeper.key(make=appending.mark(session, HEAD) is None)
        return appending.append(session, keeper, key, records)


def _unavailable() -> Unavailable:
    return Unavailable(
        "The call may have been carried out, but the audit log could not be written; the log of Hearth says why."
    )

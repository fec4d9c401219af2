"""Captured requests of one replica: held in bounded memory, written into the object store by a thread of its own.

Who answers clients does no more than count bytes and append a reference. Where the object store is slow or full, what
is held stays, the newest requests are not captured, and each is counted under what became of it.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import Counter, Gauge

from server.capture import files
from server.capture.event import Event, Incomplete
from server.errors import HearthError
from server.objects.storage import Storage
from server.spec import Capture

log = structlog.get_logger(__name__)

MOST_EVENTS = 4096
MOST_BYTES = 64 * 1024 * 1024
"""Of requests and answers that are held, those under way included."""
EVENT_BYTES = 16 * 1024 * 1024
"""Of one request and its answer; a longer pair is not captured."""
FLUSH_BYTES = 4 * 1024 * 1024
FLUSH_S = 10.0
"""A file is written when so much waits, or when its first record is so old."""
RETRIES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits before a file that could not be written is tried again; after the last one it is given up."""
LAST_FLUSH_S = 5.0
"""How long a replica that ends waits for what it has captured to be written."""

_CAPTURED = Counter(
    "hearth_captured_requests",
    "Sampled requests by what became of them: captured, dropped, too_long, unfinished, failed, lost.",
    ("EndpointName", "VariantName", "outcome"),
)
_HELD = Gauge(
    "hearth_capture_held_bytes", "Bytes of captured requests that are not written yet.", ("EndpointName", "VariantName")
)


class Held:
    """One sampled request while it is answered, and the bytes that are charged for it. Ends with `offer` or `drop`."""

    def __init__(self, owner: Capturing, capture: Capture) -> None:
        self.capture = capture
        self.size = 0
        self._owner = owner

    def hold(self, size: int) -> bool:
        """Charges bytes; False: they are too many, nothing is charged any more and the request is not captured."""
        return self._owner.hold(self, size)

    def offer(self, event: Event) -> None:
        self._owner.offer(event)

    def drop(self, outcome: str) -> None:
        self._owner.drop(self, outcome)


class Capturing:
    """One for a replica. Its thread starts with the first request that is captured. `open_storage` opens the object
    store of the endpoint's account, there; `draw` is a random number below 1."""

    def __init__(
        self, open_storage: Callable[[], Storage], endpoint: str, variant: str, *,
        draw: Callable[[], float] = random.random, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES,
        event_bytes: int = EVENT_BYTES, flush_bytes: int = FLUSH_BYTES, flush_s: float = FLUSH_S,
        retries_s: Sequence[float] = RETRIES_S,
    ) -> None:  # fmt: skip
        self._open = open_storage
        self._names = (endpoint, variant)
        self._draw = draw
        self._most_events, self._most_bytes, self._event_bytes = most_events, most_bytes, event_bytes
        self._flush_bytes, self._flush_s, self._retries_s = flush_bytes, flush_s, tuple(retries_s)
        self._capture: Capture | None = None
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, Event]] = deque()
        """With the moment by the monotonic clock when each came."""
        self._waiting_bytes = 0
        self.held = 0
        """Bytes of requests and answers in memory, those under way included."""
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._storage: Storage | None = None
        _HELD.labels(*self._names).set_function(lambda: float(self.held))

    def aim(self, capture: Capture | None) -> None:
        """What is captured from now on; None: nothing."""
        self._capture = capture

    def sample(self) -> Held | None:
        """For one request: where its bytes are charged; None: it is not captured."""
        capture = self._capture
        if capture is None or not capture.enabled or self._draw() * 100 >= capture.sampling_percentage:
            return None
        return Held(self, capture)

    def hold(self, held: Held, size: int) -> bool:
        with self._changed:
            too_long = held.size + size > self._event_bytes
            full = self.held + size > self._most_bytes or len(self._waiting) >= self._most_events
            if not too_long and not full and not self._stopped:
                held.size += size
                self.held += size
                return True
            self._release(held.size)
            held.size = 0
        self._count("too_long" if too_long else "dropped")
        return False

    def drop(self, held: Held, outcome: str) -> None:
        with self._changed:
            self._release(held.size)
        self._count(outcome)

    def offer(self, event: Event) -> None:
        """Takes over what is charged for `event`."""
        with self._changed:
            if self._stopped or len(self._waiting) >= self._most_events:
                self._release(event.size)
                self._count("dropped")
                return
            self._waiting.append((time.monotonic(), event))
            self._waiting_bytes += event.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
                self._thread.start()
            if len(self._waiting) == 1 or self._waiting_bytes >= self._flush_bytes:
                self._changed.notify_all()

    def stop(self, timeout_s: float = LAST_FLUSH_S) -> None:
        """Writes what waits, and captures nothing more. Blocking, for `timeout_s` at most."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                left = len(self._waiting)
                log.error("captured requests lost: the object store did not take them in time", waiting=left)
                self._count("lost", left)

    def _run(self) -> None:
        try:
            while batch := self._batch():
                for same in _together(batch):
                    self._write(same)
        except Exception as error:
            log.error("capture ended", exc_info=error)
            with self._changed:
                self._stopped = True
        finally:
            if self._storage is not None:
                self._storage.close()

    def _batch(self) -> list[Event]:
        """What one flush writes, when it is due; nothing when there is nothing and no more will come."""
        with self._changed:
            while not self._stopped and self._waiting_bytes < self._flush_bytes:
                since = self._waiting[0][0] if self._waiting else None
                left = None if since is None else since + self._flush_s - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            batch: list[Event] = []
            size = 0
            while self._waiting and size < self._flush_bytes:
                event = self._waiting.popleft()[1]
                size += event.size
                batch.append(event)
            self._waiting_bytes -= size
            return batch

    def _write(self, events: Sequence[Event]) -> None:
        """One file, tried again while that may help. What is charged for `events` is given back at the end."""
        first = events[0]
        lines = []
        for event in events:
            try:
                lines.append(event.line())
            except (Incomplete, ValueError):
                self._count("unfinished")
        moment = f"{files.minute(first.at)}-{int(first.at * 1000) % 1000:03}-{uuid.uuid4()}"
        path = (*self._names, files.hour(first.at), moment)
        written = not lines or self._tried(first.capture, path, lines)
        with self._changed:
            self._release(sum(event.size for event in events))
        self._count("captured" if written else "failed", len(lines))

    def _tried(self, capture: Capture, path: Sequence[str], lines: Sequence[str]) -> bool:
        for wait_s in (*self._retries_s, None):
            error = self._put(capture, path, lines)
            if error is None:
                return True
            if wait_s is None or not _passes(error):
                return False
            with self._changed:
                ends = self._changed.wait_for(lambda: self._stopped, wait_s)
            if ends:
                return self._put(capture, path, lines) is None
        return False

    def _put(self, capture: Capture, path: Sequence[str], lines: Sequence[str]) -> Exception | None:
        """What went wrong, whatever it was: a disk, a database, a key."""
        try:
            if self._storage is None:
                self._storage = self._open()
            files.write(self._storage, capture.destination, path, lines, capture.kms_key)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            log.error("captured requests not written", destination=capture.destination, error=said)
            return error
        return None

    def _release(self, size: int) -> None:
        self.held -= size

    def _count(self, outcome: str, count: int = 1) -> None:
        if count:
            _CAPTURED.labels(*self._names, outcome).inc(count)


def _together(batch: Sequence[Event]) -> list[list[Event]]:
    """Events that go into one file: of one configuration and one hour."""
    found: dict[tuple[Capture, str], list[Event]] = {}
    for event in batch:
        found.setdefault((event.capture, files.hour(event.at)), []).append(event)
    return list(found.values())


def _passes(error: Exception) -> bool:
    """Whether trying again may help: a bucket that is not there or a key that may not be used stays so."""
    return not isinstance(error, HearthError) or error.status >= 500

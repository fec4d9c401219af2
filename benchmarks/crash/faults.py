"""What is done to Hearth while users call it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import psutil
from sqlalchemy import create_engine, make_url, text

from benchmarks.crash.site import Site, await_other, kill

BACK_S = 60.0
"""How long a killed process may take to be there again."""
HELD_S = (1.0, 4.0, 12.0)
"""For how long the store is held or the door stopped; the last is longer than the store waits for a lock."""
USERS = "crash"
"""What all names of users' resources begin with."""
REPLICA_S = 8.0
"""How long a replica is waited for, to kill it."""
COMMIT_S = 2.0
"""How long a write is waited for, to kill the door at."""
STOPS = 300
"""Tries to stop the door inside a transaction."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A part was away from `began` to `ended` (`time.monotonic()`). `endpoint`: whose, where not all are concerned."""

    part: str
    began: float
    ended: float
    endpoint: str | None = None


@dataclass(slots=True)
class Done:
    """How often each was done, and when."""

    kills: Counter[str] = field(default_factory=Counter)
    outages: list[Outage] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """What did not come back in time."""


class Faults:
    """Each takes a part away and returns when it is back. A part is taken from one user at a time."""

    def __init__(self, site: Site, seconds: tuple[float, ...] = HELD_S) -> None:
        self.site = site
        self.seconds = seconds
        self.done = Done()
        self._locks = {name: Lock() for name in ("controller", "door", "edge", "Serve's controller", "store")}

    @property
    def all(self) -> dict[str, Callable[[random.Random], None]]:
        """By name, in a fixed order."""
        store = self._terminated if self._postgres else self._locked
        return {
            "controller": lambda _: self._killed("controller", lambda: self.site.child("server.controller")),
            "door": lambda _: self._killed("door", self._door, self._await_commit),
            "edge": lambda _: self._killed("edge", self.site.edge_worker),
            "Serve's controller": lambda _: self._killed("Serve's controller", self._serve),
            "replica": self._replica,
            "store": store,
            "door stopped": self._stopped,
        }

    @contextlib.contextmanager
    def away(self, part: str, endpoint: str | None = None) -> Iterator[None]:
        """Notes what lasts as an outage of `part`."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.done.outages.append(Outage(part, began, time.monotonic(), endpoint))

    @property
    def _postgres(self) -> bool:
        return make_url(self.site.settings.database).get_backend_name() == "postgresql"

    def fence(self) -> None:
        """Ends all that is under way in the door."""
        self._killed("door", self._door)

    def _door(self) -> psutil.Process:
        return self.site.child("server.door")

    def _await_commit(self) -> None:
        """Returns when something was just written, or a while later: who is killed then has mostly not answered."""
        if self._postgres:
            return
        log = Path(f"{make_url(self.site.settings.database).database}-wal")
        before, deadline = log.stat().st_mtime_ns, time.monotonic() + COMMIT_S
        while log.stat().st_mtime_ns == before and time.monotonic() < deadline:
            continue

    def _serve(self) -> psutil.Process:
        return self.site.of_ray("ServeController")

    def _killed(self, name: str, find: Callable[[], psutil.Process], moment: Callable[[], object] = int) -> None:
        with self._locks[name], self.away(name):
            deadline = time.monotonic() + BACK_S
            while time.monotonic() < deadline:
                with contextlib.suppress(KeyError, psutil.Error):
                    victim = find()
                    moment()
                    kill(victim)
                    break
                time.sleep(0.05)
            else:
                self.done.late.append(name)
                return
            self.done.kills[name] += 1
            if not await_other(find, victim.pid, BACK_S):
                self.done.late.append(name)

    def _replica(self, chance: random.Random) -> None:
        """Any of the users', ready or not; none when none appears for a while."""
        deadline = time.monotonic() + REPLICA_S
        while time.monotonic() < deadline:
            with contextlib.suppress(KeyError, ProcessLookupError, psutil.Error):
                processes = self.site.replica_processes().items()
                if found := sorted(pid for pid, name in processes if name.startswith(f"hearth:{USERS}")):
                    os.kill(chance.choice(found), signal.SIGKILL)
                    self.done.kills["replica"] += 1
                    return
            time.sleep(0.2)

    def _locked(self, chance: random.Random) -> None:
        """Another program holds SQLite's write lock."""
        with self._locks["store"], self.away("store"), contextlib.closing(self._other()) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(chance.choice(self.seconds))
            other.execute("ROLLBACK")
            self.done.kills["store"] += 1

    def _terminated(self, chance: random.Random) -> None:
        """PostgreSQL ends every connection to the database, a few times."""
        query = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                     " AND datname = current_database()")  # fmt: skip
        engine = create_engine(self.site.settings.database)
        with self._locks["store"], self.away("store"):
            until = time.monotonic() + chance.choice(self.seconds) / 4
            while time.monotonic() < until:
                with engine.begin() as connection:
                    connection.execute(query)
                time.sleep(0.02)
            self.done.kills["store"] += 1
        engine.dispose()

    def _stopped(self, chance: random.Random) -> None:
        """The door stands still, where it can be seen to hold a lock: inside a transaction."""
        with self._locks["door"], self.away("door"):
            process = self._door()
            with contextlib.suppress(psutil.NoSuchProcess):
                try:
                    inside = self._stop_inside(process)
                    time.sleep(chance.choice(self.seconds) if inside else 0.5)
                    self.done.kills["door stopped in a transaction" if inside else "door stopped"] += 1
                finally:
                    process.send_signal(signal.SIGCONT)

    def _stop_inside(self, process: psutil.Process) -> bool:
        if self._postgres:
            process.send_signal(signal.SIGSTOP)
            return False
        for _ in range(STOPS):
            process.send_signal(signal.SIGSTOP)
            if self._is_locked():
                return True
            process.send_signal(signal.SIGCONT)
            time.sleep(0.0005)
        process.send_signal(signal.SIGSTOP)
        return False

    def _is_locked(self) -> bool:
        with contextlib.closing(self._other(timeout_s=0)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            other.execute("ROLLBACK")
            return False

    def _other(self, timeout_s: float = 30.0) -> sqlite3.Connection:
        path = make_url(self.site.settings.database).database
        return sqlite3.connect(str(path), timeout=timeout_s, isolation_level=None)

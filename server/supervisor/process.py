"""Child processes: output to a log file, ended with their parent, restarted when they die."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from server.deathsig import die_with_parent
from server.edge.process import EdgeError

log = structlog.get_logger(__name__)

QUICK_DEATH_S = 10.0
LONGEST_PAUSE_S = 10.0

class Child:
    """One supervised process. A child that dies soon after its start is restarted after a growing pause."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._ran = False
        self._pause = 0.0
        self._next = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def keep_alive(self) -> bool:
        """Starts the process if it is not there; True when it was started now.

        Raises what its first start raises; a later one that fails is tried again like a process that died.
        """
        now = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            return False
        if self._process is not None:
            self._note_death(now, self._process.returncode)
            self._process = None
        if now < self._next:
            return False
        self._started = now
        try:
            self._process = self._start()
        except (OSError, EdgeError) as error:
            if not self._ran:
                raise
            self._note_death(now, str(error))
            return False
        self._ran = True
        return True

    def _note_death(self, now: float, how: int | str) -> None:
        quick = now - self._started < QUICK_DEATH_S
        self._pause = min(LONGEST_PAUSE_S, max(0.25, self._pause * 2)) if quick else 0.0
        self._next = now + self._pause
        log.warning("process ended", process=self.name, how=how, restart_in_s=self._pause)

    def stop(self, timeout_s: float) -> None:
        """Asks the process to end, and ends it after `timeout_s`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def spawn(
    argv: Sequence[str], log_file: Path, environ: Mapping[str, str] | None, files: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Starts `argv` with both outputs appended to `log_file`; `environ` None: this process's; `files` stay open."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environ is None else dict(environ),
            preexec_fn=die_with_parent,
            pass_fds=files,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that can be told from another that got its number later."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        return cls(pid, psutil.Process(pid).create_time())

    def alive(self) -> bool:
        try:
            return abs(psutil.Process(self.pid).create_time() - self.created) < 0.01
        except psutil.NoSuchProcess:
            return False


class PidFile:
    """Who runs on a state directory, so that a second start or a `down` finds them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self) -> None:
        me = Identity.of(os.getpid())
        self._path.write_text(json.dumps({"pid": me.pid, "created": me.created}))

    def read(self) -> Identity | None:
        """The living owner, if there is one."""
        try:
            record = json.loads(self._path.read_text())
            found = Identity(int(record["pid"]), float(record["created"]))
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return found if found.alive() else None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

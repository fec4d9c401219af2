"""Starting a server for a measurement and stopping all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "HEARTH_BENCHMARK_ARM"
"""Set in a server's environment, so that its descendants can be told from all other processes."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exit_on_sigterm() -> None:
    """Make SIGTERM raise SystemExit, so that a measurement that is ended stops its servers too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Server:
    """A command and everything it starts; its output goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self._mark = uuid.uuid4().hex
        self.log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env, MARK: self._mark},
                cwd=cwd,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises RuntimeError with the end of the log when the command has ended."""
        if (code := self._process.poll()) is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"server ended with status {code}; end of {self.log}:\n{tail}")

    def pids(self) -> list[int]:
        """Of the command and of all its living descendants, in whatever session they are.

        A process that renames itself may write over its environment: it is found as a child of its parent.
        """
        entry = f"{MARK}={self._mark}".encode()
        found = [self._process.pid] if _alive(self._process.pid) else []
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, parent = _state(folder)
                if state == "Z":
                    continue
                children.setdefault(parent, []).append(int(folder.name))
                if entry in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:  # it has ended meanwhile, or is another user's
                continue
        known: set[int] = set()
        while found:
            pid = found.pop()
            if pid not in known:
                known.add(pid)
                found += children.get(pid, ())
        return sorted(known)

    def cpu_seconds(self) -> float:
        """CPU time used so far by all its living processes."""
        ticks = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def signal(self, number: signal.Signals) -> None:
        _send(self.pids(), number)

    def stop(self, grace_s: float = 20.0) -> None:
        """Ask the command to end; what is left of it and its descendants after `grace_s` is killed."""
        family = self.pids()  # an orphan is nobody's child any more, so it is noted before
        if self._process.poll() is None:
            self._process.terminate()
        if not self._gone(family, grace_s):
            _send([*family, *self.pids()], signal.SIGKILL)
            self._gone(family, 10.0)
        self._process.wait()

    def _gone(self, family: Sequence[int], within_s: float) -> bool:
        until = time.monotonic() + within_s
        while self.pids() or any(_alive(pid) for pid in family):
            if time.monotonic() > until:
                return False
            self._process.poll()
            time.sleep(0.1)
        return True


def _send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _alive(pid: int) -> bool:
    try:
        return _state(Path(f"/proc/{pid}"))[0] != "Z"
    except OSError:
        return False


def _state(folder: Path) -> tuple[str, int]:
    """State and parent of the process that `folder` below /proc describes. Raises OSError when it has ended."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])

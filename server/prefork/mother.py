"""`python -m server.prefork.mother SOCKET STAGE`: imports what replicas and engines need, and forks them.

One thread, no event loop, nothing of any endpoint: a fork is as good as a fresh Python that has imported. A second
stage is imported when the first process that needs it asks, or at once where STAGE says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import time
from pathlib import Path
from typing import get_args

import structlog

from server import logs
from server.prefork.adopted import Asked, become, command, run
from server.prefork.imported import NEED, Imported, Stage

log = structlog.get_logger(__name__)

BACKLOG = 512


class Mother:
    """`serve` returns in each fork, with what it is to become."""

    def __init__(self, listener: socket.socket, imported: Imported) -> None:
        self._listener = listener
        self._imported = imported
        self._children: dict[int, tuple[int, socket.socket]] = {}
        """By pidfd: the process's number, and its starter's connection."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> Asked:
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._children:
                    self._reap(key.fd)
                elif (asked := self._answer()) is not None:
                    self._let_go()
                    return asked

    def _answer(self) -> Asked | None:
        """Forks for the next starter, or declines; in the fork, what was asked."""
        connection, _ = self._listener.accept()
        try:
            asked = Asked.receive(connection)
        except (OSError, ValueError) as error:
            log.warning("not understood", error=str(error))
            connection.close()
            return None
        try:
            return asked if self._fork(asked, connection) else None
        except OSError as error:
            log.warning("not forked", error=str(error))
            connection.close()
            return None

    def _fork(self, asked: Asked, connection: socket.socket) -> bool:
        """True in the fork."""
        need = asked.environ.get(NEED)
        for stage in get_args(Stage):
            if stage == need:
                load(self._imported, stage)
        shown = " ".join(asked.argv)[:120]
        why = self._imported.declines(asked.environ) if command(asked.argv) else "it has its own options"
        if why is not None:
            log.warning("declined", command=shown, why=why)
            connection.sendall(json.dumps({"declined": why}).encode() + b"\n")
            asked.close()
            connection.close()
            return False
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            connection.close()
            return True
        asked.close()
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, connection)
        self._selector.register(pidfd, selectors.EVENT_READ)
        log.info("forked", child=pid, starter=_peer(connection), command=shown)
        with contextlib.suppress(OSError):  # a starter that has gone took the fork with it
            socket.send_fds(connection, [json.dumps({"pid": pid}).encode() + b"\n"], [pidfd])
        return False

    def _let_go(self) -> None:
        """In a fork: closes what is the mother's, so that nothing closes it later under a number of another file."""
        self._selector.close()
        self._listener.close()
        for pidfd, (_, connection) in self._children.items():
            os.close(pidfd)
            connection.close()

    def _reap(self, pidfd: int) -> None:
        pid, connection = self._children.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps({"status": status}).encode() + b"\n")
        connection.close()


def _peer(connection: socket.socket) -> int:
    """Number of the process at the other end."""
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def load(imported: Imported, stage: Stage) -> None:
    if stage in imported.stages:
        return
    began = time.monotonic()
    imported.load(stage)
    log.info("imported", stage=stage, seconds=round(time.monotonic() - began, 2), modules=len(sys.modules))


def listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener


def main(path: str, *stages: str) -> None:
    logs.configure("prefork", "info")
    listener = listen(Path(path))
    imported = Imported()
    for stage in get_args(Stage):
        if stage in stages:
            load(imported, stage)
    asked = Mother(listener, imported).serve()
    become(asked, imported.added)
    run(command(asked.argv) or ())


if __name__ == "__main__":
    main(*sys.argv[1:])

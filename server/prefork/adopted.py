"""A fork of the mother process becomes the process that its starter was asked to be."""

from __future__ import annotations

import atexit
import fcntl
import gc
import itertools
import json
import os
import resource
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from server.prefork.imported import THREADS
from server.prefork.starter import START

HIGH = 700
"""Numbers from here on are free while open files are put in their places."""
MOST_FILES = 250
"""What one message may carry is 253 (`unix(7)`)."""
RECEIVE_S = 5.0

_born: int | None = None


def forked() -> bool:
    """Whether this very process was forked from the mother: its parent is then none of its starters."""
    return _born == os.getpid()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a starter wants; `lifeline` and `files` are numbers in this process."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    cwd: str
    umask: int
    group: int
    niceness: int
    files_limit: int
    """How many files it may have open."""
    lifeline: int
    files: Mapping[int, int]
    """From the number that a file has in the starter to the one that it has here."""

    @classmethod
    def receive(cls, connection: socket.socket) -> Asked:
        """Raises OSError or ValueError where the starter broke off."""
        connection.settimeout(RECEIVE_S)
        head, found, _, _ = socket.recv_fds(connection, 4, MOST_FILES)
        try:
            if len(head) < 4:
                raise ValueError("cut short")
            message = _exactly(connection, struct.unpack("!I", head)[0])
            told: dict[str, Any] = json.loads(message)
            lifeline, *files = found
            places = dict(zip(told.pop("files"), files, strict=True))
            return cls(**told, lifeline=lifeline, files=places)
        except BaseException:
            for number in found:
                os.close(number)
            raise

    def close(self) -> None:
        for number in (self.lifeline, *self.files.values()):
            os.close(number)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = connection.recv(min(size, 1 << 16))
        if not part:
            raise ValueError("cut short")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def become(asked: Asked, added: Mapping[str, str]) -> None:
    """Takes on the starter's files, folder, limits and environment; `added` is what the imports set in theirs."""
    global _born
    lifeline = _place(asked)
    _end_with(lifeline)
    _belong(asked)
    os.chdir(asked.cwd)
    os.umask(asked.umask)
    before = os.environ.get(THREADS)
    os.environ.clear()
    os.environ.update({**added, **asked.environ, START: "warm"})
    if (threads := os.environ.get(THREADS)) != before and threads is not None and threads.isdigit():
        _compute_with(int(threads))
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    atexit.register(gc.unfreeze)  # so that what libraries look for as they go is collected before
    _born = os.getpid()


def _place(asked: Asked) -> int:
    """Gives the starter's files their numbers, and closes every other one. Returns the lifeline's new number."""
    top = max(HIGH, *asked.files) + 1
    aside = {place: fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, top) for place, number in asked.files.items()}
    lifeline = fcntl.fcntl(asked.lifeline, fcntl.F_DUPFD_CLOEXEC, top)
    os.closerange(3, top)
    for place, number in aside.items():
        os.dup2(number, place, inheritable=True)
        os.close(number)
    return lifeline


def _end_with(lifeline: int) -> None:
    """Has the kernel kill this process once the lifeline's other end is closed."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    closed = select.poll()
    closed.register(lifeline, select.POLLHUP)
    if closed.poll(0):
        os._exit(1)


def _belong(asked: Asked) -> None:
    try:
        os.setpgid(0, asked.group)
    except OSError:  # of another session, or gone
        os.setpgid(0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(asked.niceness, os.getpriority(os.PRIO_PROCESS, 0)))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = asked.files_limit if most == resource.RLIM_INFINITY else min(asked.files_limit, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _compute_with(threads: int) -> None:
    """What `OMP_NUM_THREADS` would have done to libraries that are loaded already."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def command(argv: Sequence[str]) -> list[str] | None:
    """What is to be run, without options that this process was started with as well; None: with others."""
    own = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    rest = list(itertools.dropwhile(lambda each: each in own, argv))
    return rest if rest and (not rest[0].startswith("-") or rest[0] in ("-c", "-m")) else None


def run(argv: Sequence[str]) -> None:
    """Runs a command line as Python does: `-c CODE ...`, `-m MODULE ...` or `SCRIPT ...`."""
    if argv[0] == "-m":
        sys.argv[:] = argv[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        return
    main = ModuleType("__main__")
    if argv[0] == "-c":
        sys.argv[:], sys.path[0], name = ["-c", *argv[2:]], "", "<string>"
        source: str | bytes = argv[1]
    else:
        sys.argv[:], sys.path[0], name = list(argv), str(Path(argv[0]).resolve().parent), argv[0]
        main.__file__ = argv[0]
        source = Path(argv[0]).read_bytes()
    main.__dict__["__spec__"] = None
    sys.modules["__main__"] = main
    exec(compile(source, name, "exec", dont_inherit=True), main.__dict__)

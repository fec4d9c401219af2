"""Runs in place of Python: has the mother process fork a process for a command line, and stands for it until it ends.

    python -I -S starter.py SOCKET PYTHON ARGUMENTS...

Where nobody listens at SOCKET, or the mother declines, it becomes PYTHON with the same ARGUMENTS. It imports a few
modules of the standard library and nothing of Hearth, as its own start counts.

Messages: four bytes of length with the open files (the first one is the lifeline), then JSON; back come JSON lines,
`{"pid": ...}` with a pidfd or `{"declined": ...}`, and at the end `{"status": ...}` as `waitpid(2)` has it. The fork
ends when the lifeline is closed, so it never outlives its starter, even one that is killed; and a starter ends with its
parent.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

WAIT_S = 45.0
"""How long a mother that is still importing is waited for; Ray gives up a worker that is not there after 60."""
LAST_WORD_S = 2.0
"""How long the mother may take to say how a fork ended."""
START = "HEARTH_START"
"""Environment variable of what was started here: `warm`, or `cold: ` and why."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
MODULES = ("vllm.model_executor.models.registry",)


def relays(argv: list[str]) -> bool:
    """Whether a command line is one that the imports are good for: Ray's worker, a process of multiprocessing's,
    vLLM's look at a model class. Others are short, or a customer's."""
    if not argv:
        return False
    worker = argv[0].endswith("/default_worker.py")
    return worker or "--multiprocessing-fork" in argv or (argv[0] == "-m" and "".join(argv[1:2]) in MODULES)


def main() -> None:
    path, python, *argv = sys.argv[1:]
    if relays(argv):
        outcome = _relay(path, argv)
        if isinstance(outcome, int):
            _end_like(outcome)
        os.environ[START] = f"cold: {outcome}"
    os.execv(python, [python, *argv])


def _relay(path: str, argv: list[str]) -> int | str:
    """The fork's wait status once it has ended; why there is none otherwise."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(WAIT_S)
    lifeline, held = os.pipe()
    try:
        parent = os.pidfd_open(os.getppid())
        connection.connect(path)
        files = _open_files({connection.fileno(), lifeline, held, parent})
        _ask(connection, argv, lifeline, files)
        reply, pidfd = _answer(connection)
    except OSError as error:
        os.close(held)
        return f"the mother process does not answer: {error.strerror or type(error).__name__}"
    finally:
        os.close(lifeline)
    if pidfd is None:
        return str(reply.get("declined", "the mother process ended"))
    for number in files[3:]:
        os.close(number)
    return _stand_for(connection, pidfd, parent)


def _open_files(own: set[int]) -> list[int]:
    found = [0, 1, 2]
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib takes longer to import than all else here
        number = int(name)
        try:
            inherited = number > 2 and number not in own and os.get_inheritable(number)
        except OSError:  # the listing's own
            continue
        if inherited:
            found.append(number)
    return found


def _ask(connection: socket.socket, argv: list[str], lifeline: int, files: list[int]) -> None:
    mask = os.umask(0)
    os.umask(mask)
    message = json.dumps(
        {
            "argv": argv,
            "environ": dict(os.environ),
            "cwd": os.getcwd(),  # noqa: PTH109
            "files": files,
            "umask": mask,
            "group": os.getpgrp(),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }
    ).encode()
    socket.send_fds(connection, [struct.pack("!I", len(message))], [lifeline, *files])
    connection.sendall(message)


def _answer(connection: socket.socket) -> tuple[dict[str, Any], int | None]:
    text, files, _, _ = socket.recv_fds(connection, 4096, 1)
    while text and not text.endswith(b"\n"):
        more = connection.recv(4096)
        if not more:
            break
        text += more
    return (json.loads(text) if text.endswith(b"\n") else {}), (files[0] if files else None)


def _stand_for(connection: socket.socket, pidfd: int, parent: int) -> int:
    for number in FORWARDED:
        signal.signal(number, lambda number, _frame: _forward(pidfd, number))
    over = select.poll()
    over.register(pidfd, select.POLLIN)
    over.register(parent, select.POLLIN)
    if pidfd not in dict(over.poll()):
        os._exit(1)  # the parent has ended; the lifeline goes with this process
    connection.settimeout(LAST_WORD_S)
    try:
        reply, _ = _answer(connection)
    except OSError:
        reply = {}
    return int(reply.get("status", 1 << 8))


def _forward(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def _end_like(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()

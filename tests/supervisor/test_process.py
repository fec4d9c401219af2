"""Children are restarted when they die, end with their parent, and can be told from strangers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from server.edge.process import StartFailed
from server.supervisor.process import Child, Identity, PidFile, spawn
from server.supervisor.rotation import rotate


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sleeper(log: Path) -> subprocess.Popen[bytes]:
    return spawn([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], log, None)


def test_a_dead_child_is_started_again(tmp_path: Path) -> None:
    child = Child("sleeper", lambda: sleeper(tmp_path / "out.log"))
    assert child.keep_alive()
    assert not child.keep_alive()
    first = child.pid
    assert first is not None
    until(lambda: (tmp_path / "out.log").read_text().count("up") == 1)
    os.kill(first, 9)
    until(child.keep_alive)
    assert child.pid != first
    until(lambda: (tmp_path / "out.log").read_text().count("up") == 2)
    child.stop(5.0)


def test_a_child_that_dies_at_once_is_not_started_in_a_tight_loop(tmp_path: Path) -> None:
    starts: list[float] = []

    def start() -> subprocess.Popen[bytes]:
        starts.append(time.monotonic())
        return spawn([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "out.log", None)

    child = Child("crasher", start)
    until(lambda: child.keep_alive() and len(starts) == 3)
    child.stop(5.0)
    pauses = [after - before for before, after in pairwise(starts)]
    assert all(pause >= least for pause, least in zip(pauses, (0.25, 0.5), strict=True))


def test_a_start_that_fails_later_is_tried_again(tmp_path: Path) -> None:
    """The first one tells the user; a later one must not take everything else down."""
    failing = [True]

    def start() -> subprocess.Popen[bytes]:
        if failing[0]:
            raise StartFailed("the port is taken")
        return sleeper(tmp_path / "out.log")

    child = Child("edge", start)
    with pytest.raises(StartFailed):
        child.keep_alive()
    failing[0] = False
    assert child.keep_alive()
    assert child.pid is not None
    failing[0] = True
    os.kill(child.pid, 9)
    until(lambda: child.pid is None or (not child.keep_alive() and child.pid is None))
    assert not child.keep_alive()
    failing[0] = False
    until(child.keep_alive)
    child.stop(5.0)


def test_a_listening_socket_outlives_who_answers_on_it(tmp_path: Path) -> None:
    """Who calls while the process is started again waits, and is not refused."""
    program = (
        "import socket, sys\n"
        "listening = socket.socket(fileno=int(sys.argv[1]))\n"
        "while True:\n"
        "    caller, _ = listening.accept(); caller.sendall(b'hello'); caller.close()"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen(8)
        number = listening.fileno()
        argv = [sys.executable, "-c", program, str(number)]
        child = Child("answerer", lambda: spawn(argv, tmp_path / "out.log", None, [number]))
        child.keep_alive()
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.settimeout(60)
                caller.connect(str(tmp_path / "s"))
                until(lambda: child.keep_alive() or child.pid is not None)
                assert caller.recv(5) == b"hello"
            assert child.pid is not None
            os.kill(child.pid, 9)
            psutil.wait_procs([psutil.Process(child.pid)], timeout=60)
        child.stop(5.0)


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from server.supervisor.process import spawn\n"
        "child = spawn(['sleep', '60'], Path(sys.argv[1]), None); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out.log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_pid_file_names_only_a_living_owner(tmp_path: Path) -> None:
    file = PidFile(tmp_path / "pid")
    assert file.read() is None
    file.write()
    assert file.read() == Identity.of(os.getpid())
    (tmp_path / "pid").write_text(f'{{"pid": {os.getpid()}, "created": 1.0}}')
    assert file.read() is None
    (tmp_path / "pid").write_text("torn")
    assert file.read() is None


@pytest.mark.parametrize("size", [10, 1000])
def test_only_logs_that_grew_too_large_are_rotated(tmp_path: Path, size: int) -> None:
    log = tmp_path / "endpoints" / "one" / "replica.log"
    log.parent.mkdir(parents=True)
    with log.open("ab") as writer:
        writer.write(b"x" * size)
        writer.flush()
        rotated = rotate(tmp_path, largest=100)
        writer.write(b"more")
    if size > 100:
        assert rotated == [log]
        assert log.read_bytes() == b"more"
        assert log.with_name("replica.log.1").stat().st_size == size
    else:
        assert rotated == []
        assert log.stat().st_size == size + 4

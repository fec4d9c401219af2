"""A measured server's processes are found, signalled and ended, whatever they call themselves."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil

from benchmarks.processes import Server

RENAMED = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={})
print(child.pid, flush=True)
child.wait()
"""


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_without_the_mark_is_found_and_stopped(tmp_path: Path) -> None:
    """vLLM's engine processes rename themselves and so write over their environment."""
    log = tmp_path / "log"
    server = Server([sys.executable, "-c", RENAMED], log, {}, tmp_path)
    deadline = time.monotonic() + 60
    while not log.read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(log.read_text())
    assert child in server.pids()
    server.stop(grace_s=1.0)
    assert server.pids() == []
    assert not running(child)

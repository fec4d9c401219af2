"""The Hearth that is under test: its processes, and what Ray and the edge hold, seen from outside its API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from server.edge import runtime
from server.launch import FILE, Launch, edge_config
from server.settings import Settings
from server.supervisor.ray_head import MARK, RayHead

APPS_TIMEOUT_S = 60.0
_APPS = """
import json, sys
from server.controller.cluster import Cluster
print(json.dumps([str(name) for name in Cluster(sys.argv[1]).apps()]))
"""


class Unasked(Exception):
    """Ray cannot be asked at this moment."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running `hearth up`."""

    url: str
    state_dir: Path
    supervisor: int
    """Its process id."""

    @property
    def launch(self) -> Launch:
        return Launch.read(self.state_dir / "run" / FILE)

    @property
    def settings(self) -> Settings:
        return self.launch.settings

    def child(self, name: str) -> psutil.Process:
        """One of the supervisor's children, by a part of its command line. Raises KeyError."""
        return _named(psutil.Process(self.supervisor).children(recursive=True), name)

    def edge_worker(self) -> psutil.Process:
        """The process that holds the connections. Raises KeyError."""
        return _named(self.child("haproxy").children(), "haproxy")

    def of_ray(self, name: str) -> psutil.Process:
        """A process of this Hearth's Ray. Raises KeyError."""
        directory = str(RayHead(self.settings).directory)
        return _named((each for each in psutil.process_iter() if _environ(each).get(MARK) == directory), name)

    def replicas(self) -> list[dict[str, Any]]:
        """As they say themselves to the controller. Raises httpx.HTTPError while nobody can tell."""
        reply = httpx.get(f"{self.url}/hearth/state", timeout=10.0, trust_env=False).raise_for_status()
        return list(reply.json()["replicas"])

    def replica_processes(self) -> dict[int, str]:
        """Application names of all processes that are replicas, the controller's or nobody's."""
        parents = [self.of_ray("raylet/raylet")]
        with contextlib.suppress(KeyError):  # there is none where `prefork` is off
            parents.append(self.child("server.prefork.mother"))
        found = {}
        for process in (each for parent in parents for each in parent.children()):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::ServeReplica:hearth:"):
                    found[process.pid] = title.removeprefix("ray::ServeReplica:").split()[0]
        return found

    def engine(self, replica: int) -> psutil.Process:
        """The process that computes for a replica: below it, or forked for one that is. Raises KeyError where there
        is none."""
        below = psutil.Process(replica).children(recursive=True)
        below += [psutil.Process(pid) for each in below if (pid := self._fork_for(each.pid)) is not None]
        if not below:
            raise KeyError(f"nothing computes for process {replica}")
        return max(below, key=lambda each: each.memory_info().rss)

    def _fork_for(self, starter: int) -> int | None:
        """What was forked for `starter`, which stands in for it among its parent's children."""
        log = self.settings.log_dir / "prefork.log"
        lines = log.read_text().splitlines() if log.exists() else []
        forks = (json.loads(line) for line in reversed(lines) if f'"starter": {starter},' in line)
        return next((int(each["child"]) for each in forks), None)

    def apps(self) -> list[str]:
        """Names of Hearth's applications that Ray Serve holds. Raises Unasked."""
        environ = {**RayHead(self.settings).environ(), "PYTHONPATH": str(Path(__file__).parents[2])}
        try:
            done = subprocess.run(
                [sys.executable, "-c", _APPS, self.launch.ray_address],
                env=environ, capture_output=True, text=True, timeout=APPS_TIMEOUT_S, check=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unasked(f"no answer within {APPS_TIMEOUT_S:g} s") from None
        except subprocess.CalledProcessError as error:
            raise Unasked(error.stderr[-2000:]) from None
        return list(json.loads(done.stdout.splitlines()[-1]))

    def routed(self) -> set[str]:
        """Endpoints that the running edge knows."""
        now = runtime.running(edge_config(self.settings).runtime_socket)
        return set() if now is None else {backend.split(".")[1] for backend, _ in now.servers}


def kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)


def await_other(find: Callable[[], psutil.Process], gone: int, within_s: float) -> bool:
    """Waits for another process in the place of `gone`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(KeyError, psutil.Error):
            if find().pid != gone:
                return True
        time.sleep(0.1)
    return False


def _named(processes: Any, name: str) -> psutil.Process:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                found: psutil.Process = process
                return found
    raise KeyError(name)


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}

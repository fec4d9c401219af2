"""Two Ray nodes, each in a network namespace of its own, with a cable between them, and a Hearth that joins them.

The head, Hearth and the tests are in the namespace that pytest is started in (`make test-long` gives it one that is
nobody else's); the worker is in a second one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import yaml

from server.deathsig import die_with_parent
from server.settings import Settings
from server.supervisor.ray_head import RayHead, free_port
from tests.running.conftest import ROOT, START_TIMEOUT_S, VISION, Hearth

HEAD, WORKER = "10.77.0.1", "10.77.0.2"
CPUS = 2
"""Of each node."""
REPLICAS = 3
"""One more than a node has room for."""


class Cable:
    """Two ends in two namespaces. Raises OSError where this process may not make them."""

    def __init__(self) -> None:
        self._other = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], preexec_fn=die_with_parent)
        self.inside = ["nsenter", f"--net=/proc/{self._other.pid}/ns/net"]
        """What runs a command in the second namespace."""
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{self._other.pid}/ns/net").readlink() == own:  # unshare has not come to it yet
            assert time.monotonic() < deadline
            time.sleep(0.01)
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self._other.pid))
        _ip("address", "add", f"{HEAD}/24", "dev", "near")
        _ip("link", "set", "near", "up")
        _ip("link", "set", "lo", "up", inside=self.inside)
        _ip("address", "add", f"{WORKER}/24", "dev", "far", inside=self.inside)
        _ip("link", "set", "far", "up", inside=self.inside)

    def pull(self) -> None:
        """What is under way is lost, and nobody is told."""
        _ip("link", "set", "far", "down", inside=self.inside)

    def plug(self) -> None:
        _ip("link", "set", "far", "up", inside=self.inside)

    def remove(self) -> None:
        self._other.kill()
        self._other.wait()


def _ip(*arguments: str, inside: Sequence[str] = ()) -> None:
    subprocess.run([*inside, "ip", *arguments], check=True, capture_output=True, timeout=10)


class Nodes:
    """`ray start` as an operator runs it on each machine."""

    def __init__(self, folder: Path, cable: Cable) -> None:
        self.folder = folder
        self.cable = cable
        self.port = free_port(HEAD)
        self.environ = {**RayHead(Settings(state_dir=folder)).environ(), "HEARTH_TEST_NODES": str(folder)}

    @property
    def address(self) -> str:
        return f"{HEAD}:{self.port}"

    def start_head(self) -> None:
        self._start(HEAD, "--head", f"--port={self.port}", f"--temp-dir={self.folder}", "--include-dashboard=false")

    def start_worker(self) -> None:
        self._start(WORKER, f"--address={self.address}", inside=self.cable.inside)

    def _start(self, host: str, *arguments: str, inside: Sequence[str] = ()) -> None:
        command = [
            *inside,
            sys.executable, "-m", "ray.scripts.scripts", "start", f"--node-ip-address={host}", f"--num-cpus={CPUS}",
            f"--object-store-memory={128 * 1024**2}", "--disable-usage-stats", *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self, host: str) -> None:
        """As when the power of that machine goes: its raylet and all below it, at once."""
        raylet = next(each for each in self._processes() if f"--node_ip_address={host}" in each.cmdline())
        for process in (raylet, *raylet.children(recursive=True)):
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs([raylet], 10)

    def stop(self) -> None:
        found = list(self._processes())
        for process in found:
            process.kill()
        psutil.wait_procs(found, 10)

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if process.environ().get("HEARTH_TEST_NODES") == str(self.folder):
                    yield process
            except psutil.Error:
                continue


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    if os.geteuid() != 0 or any(each.isup for name, each in psutil.net_if_stats().items() if name != "lo"):
        pytest.skip("needs a network namespace of its own: make test-long, or unshare --map-root-user --net pytest ...")
    made = Cable()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def nodes(cable: Cable) -> Iterator[Nodes]:
    folder = Path(tempfile.mkdtemp(prefix="hn-", dir="/tmp"))  # Ray's sockets want a short path
    made = Nodes(folder, cable)
    try:
        made.start_head()
        made.start_worker()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def joined(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hearth]:
    folder = tmp_path_factory.mktemp("joined")
    vision = yaml.safe_load((ROOT / "hearth.yaml").read_text())["endpoints"][VISION]
    spread = {**vision, "scaling": {"min_replicas": REPLICAS, "max_replicas": REPLICAS}, "resources": {"num_cpus": 1}}
    config = folder / "hearth.yaml"
    wanted = {"ray_address": nodes.address, "replica_host": HEAD, "endpoints": {VISION: spread}}
    config.write_text(json.dumps(wanted))
    environ = {name: value for name, value in nodes.environ.items() if os.environ.get(name) != value}
    hearth = Hearth(folder, free_port("127.0.0.1"), config, environ=environ)
    hearth.start()
    try:
        hearth.wait("every replica", lambda: len(hearth.replicas(VISION)) == REPLICAS, START_TIMEOUT_S)
        yield hearth
    finally:
        hearth.stop()

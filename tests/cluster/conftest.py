"""Two Ray nodes, each at an address of its own on this machine, and a Hearth that joins them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from server.settings import Settings
from server.supervisor.ray_head import RayHead, free_port
from tests.running.conftest import ROOT, START_TIMEOUT_S, VISION, Hearth

HEAD, WORKER = "127.0.0.3", "127.0.0.4"
CPUS = 2
"""Of each node."""
REPLICAS = 3
"""One more than a node has room for."""


class Nodes:
    """`ray start` as an operator runs it on each machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port(HEAD)
        self.environ = {**RayHead(Settings(state_dir=folder)).environ(), "HEARTH_TEST_NODES": str(folder)}

    @property
    def address(self) -> str:
        return f"{HEAD}:{self.port}"

    def start_head(self) -> None:
        self._start(HEAD, "--head", f"--port={self.port}", f"--temp-dir={self.folder}", "--include-dashboard=false")

    def start_worker(self) -> None:
        self._start(WORKER, f"--address={self.address}")

    def _start(self, host: str, *arguments: str) -> None:
        command = [
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
def nodes() -> Iterator[Nodes]:
    folder = Path(tempfile.mkdtemp(prefix="hn-", dir="/tmp"))  # Ray's sockets want a short path
    made = Nodes(folder)
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

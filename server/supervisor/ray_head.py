"""A Ray of our own on this machine, and its recovery.

The GCS keeps its state in RocksDB, so when it alone dies it is started again with the same command and the
cluster lives on. When the raylet dies its workers die with it, and Ray is started afresh; the controller then
deploys everything again from the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from server.deathsig import die_with_parent
from server.settings import Settings, read_secret

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 3
FIRST_JOB = "01000000"
"""Ray's number for the first driver of a cluster: our controller, which starts Serve."""
MARK = "HEARTH_RAY_DIRECTORY"
"""Environment variable that every process of our Ray inherits, replicas and their engines included."""


class RayError(Exception):
    """Ray could not be started; the text holds Ray's own last words."""


@dataclass(slots=True)
class _Gcs:
    """The GCS process and what is needed to start it again."""

    process: psutil.Process
    argv: list[str]
    environ: dict[str, str]
    cwd: str


class RayHead:
    """Starts, watches and stops Ray under a directory of this Hearth's own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        key = hashlib.sha256(str(settings.state_dir).encode()).hexdigest()[:8]
        # Short: Ray's socket paths below it must stay under 107 bytes.
        self.directory = Path(tempfile.gettempdir()) / f"hearth-{os.getuid()}-{key}"
        self._gcs: _Gcs | None = None
        self._raylet: psutil.Process | None = None
        self._agents: list[psutil.Process] = []
        self.address = ""

    def environ(self) -> dict[str, str]:
        """Environment of Ray and of every process that connects to it."""
        token = self._settings.state_dir / "ray-token"
        read_secret(token)
        return {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(self.directory / "gcs"),
            "RAY_process_group_cleanup_enabled": "1",
            "RAY_worker_niceness": "0",  # replicas answer requests: they are no batch work
            "RAY_enable_metrics_collection": "0",  # Hearth has its own; Ray's cost a few percent of a core, idle
            "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            "RAY_SERVE_ENABLE_HA_PROXY": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def worker_environ(self) -> dict[str, str]:
        """What Ray adds to it for the workers of the driver that connects first, and reads as it is imported."""
        assert self._raylet is not None
        return {**self.environ(), "RAY_RAYLET_PID": str(self._raylet.pid), "RAY_JOB_ID": FIRST_JOB}

    def start(self) -> None:
        """Raises RayError."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        (self.directory / "gcs").mkdir(parents=True, mode=0o700)
        self.directory.chmod(0o700)
        port = free_port("127.0.0.1")
        cpus = self._settings.ray_cpus or max(16, 4 * (os.cpu_count() or 1))
        argv = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--node-ip-address=127.0.0.1",
            f"--port={port}", f"--temp-dir={self.directory}", f"--num-cpus={cpus}", "--include-dashboard=false",
            f"--ray-client-server-port={free_port('127.0.0.1')}", "--disable-usage-stats",
            f"--object-store-memory={256 * 1024**2}",
            "--include-log-monitor=false",  # replicas write logs of their own, and no driver asks for others
        ]  # fmt: skip
        done = subprocess.run(
            argv,
            env={**self.environ(), MARK: str(self.directory)},
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RayError((done.stderr or done.stdout).strip()[-2000:])
        self.address = f"127.0.0.1:{port}"
        self._find()

    def _find(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if process.name() == "gcs_server":
                    self._gcs = _Gcs(process, process.cmdline(), process.environ(), process.cwd())
                elif process.name() == "raylet":
                    self._raylet = process
        if self._gcs is None or self._raylet is None:
            raise RayError("Ray started, but its gcs_server or raylet is not there.")
        self._agents = self._raylet.children(recursive=True)

    def keep_alive(self) -> bool:
        """Starts again what died. True when all of Ray was started afresh (its address changed)."""
        if self._raylet is None or not running(self._raylet):
            log.warning("raylet ended; starting Ray afresh")
            self.start()
            return True
        gcs = self._gcs
        if gcs is not None and not running(gcs.process):
            log.warning("gcs ended; starting it again")
            self._gcs = _Gcs(_respawn(gcs, self.directory), gcs.argv, gcs.environ, gcs.cwd)
        return False

    def stop(self) -> None:
        """Ends every process of this Ray, leftovers of an earlier one included."""
        found = list(self._processes())
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, left = psutil.wait_procs(found, timeout=STOP_TIMEOUT_S if found else 0)
        for process in [*left, *self._processes()]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        """Processes of this Ray: all of them inherit its mark, but those that rename themselves lose it from
        view; they are found below their parents, and the raylet's agents are remembered from its start.
        """
        found = {each.pid: each for each in self._agents if running(each)}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.directory):
                    found |= {each.pid: each for each in (process, *process.children(recursive=True))}
        return list(found.values())


def _respawn(gcs: _Gcs, directory: Path) -> psutil.Process:
    with (directory / "gcs-restarts.log").open("ab") as output:
        child = subprocess.Popen(
            gcs.argv, env=gcs.environ, cwd=gcs.cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    return psutil.Process(child.pid)


def running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port(host: str) -> int:
    """A port that is free now, below the range the kernel gives to outgoing connections."""
    for _ in range(200):
        if is_free(host, port := 20000 + secrets.randbelow(12000)):
            return port
    raise RayError(f"no free port on {host}")


def is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True

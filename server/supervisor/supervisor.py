"""Runs one Hearth in the foreground: Ray, edge, door and controller, each brought back when it dies."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from server.audit.event import Named
from server.audit.local import FILE, note
from server.control import endpoints
from server.edge import process as edge
from server.edge.tls import Certificate, TlsError, check_authority
from server.errors import Conflict, NotFound
from server.identity.first_key import first_key
from server.identity.principal import root
from server.launch import Launch, edge_config, node_files
from server.prefork import python
from server.prefork.imported import Stage
from server.replicas.environ import ENVIRON, needs
from server.settings import Settings
from server.spec import EndpointSpec
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.supervisor.process import Child, PidFile, spawn
from server.supervisor.ray_head import RayHead, free_port, is_free
from server.supervisor.rotation import rotate
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

log = structlog.get_logger(__name__)

WATCH_S = 0.1
ROTATE_EVERY_S = 10.0
STOP_TIMEOUT_S = 15.0
BACKLOG = 4096


class AlreadyRunning(Exception):
    """Another Hearth runs on this state directory."""


class Supervisor:
    """Owns the processes of one Hearth. `run` returns after `stop`, SIGINT or SIGTERM."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self._say = say
        self._stopping = threading.Event()
        self._ray = RayHead(settings) if settings.ray_address is None else None
        self._launch: Launch | None = None
        self._children: list[Child] = []
        self._socket: socket.socket | None = None
        self._stages: Sequence[Stage] = ()
        self.pid_file = PidFile(settings.run_dir / "hearth.pid")

    def stop(self, *_signal: object) -> None:
        self._stopping.set()

    def run(self, watch: Callable[[], None]) -> None:
        """Starts everything, then calls `watch` between looks at the processes.

        Raises AlreadyRunning, RayError, TlsError or EdgeError when it cannot start.
        """
        self._prepare()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)
        try:
            self._start()
            next_rotation = 0.0
            while not self._stopping.wait(WATCH_S):
                self._look_after()
                watch()
                if time.monotonic() > next_rotation:
                    rotate(self.settings.log_dir)
                    self._watch_certificate()
                    next_rotation = time.monotonic() + ROTATE_EVERY_S
        finally:
            self._end()

    def _prepare(self) -> None:
        for folder in (self.settings.run_dir, self.settings.log_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self.settings.state_dir.chmod(0o700)
        if owner := self.pid_file.read():
            raise AlreadyRunning(f"Hearth already runs on {self.settings.state_dir} (process {owner.pid}).")
        self.pid_file.write()
        database = connect(self.settings.database)
        migrate(database)
        store = Store(database, self.settings.account, self.settings.region)
        self._first_key(store)
        for spec in self.settings.endpoints:
            self._declare(store, spec)
        variants = [v for found in store.find("Endpoint") for v in EndpointSpec.model_validate(found.document).variants]
        self._stages = sorted({"replica", *map(needs, variants)}, reverse=True)
        database.dispose()

    def _first_key(self, store: Store) -> None:
        """Raises VaultLocked."""
        if not self.settings.authenticates or self.settings.api_key is not None:
            return
        box = SecretBox(Vault(store.engine, self.settings.master_keys))
        if (path := first_key(store, box, self.settings.state_dir)) is not None:
            self._say(f"the root's access key is in {path}: make users and keys with it, then keep it away")

    def _declare(self, store: Store, spec: EndpointSpec) -> None:
        try:
            before, made = _generation(store, spec.name), endpoints.deploy(store, spec)
        except Conflict as error:
            self._say(f"endpoint {spec.name} as declared is not taken over: {error.message}")
            return
        if before != made.generation:
            by, touched = root(self.settings.account), (Named(made.arn, "AWS::SageMaker::Endpoint"),)
            asked = spec.model_dump(mode="json", exclude_defaults=True)
            note(self.settings, store, "DeployEndpoint", asked, by, agent=FILE, resources=touched)

    def _start(self) -> None:
        config = edge_config(self.settings)
        self._renew_certificate()
        if self.settings.nodes_secure:
            node_files(self.settings).renew()
        edge.EdgeClient(config).reset()
        self._children.append(Child("edge", lambda: edge.start(config, self.settings.log_dir / "edge.log")))
        self._children[0].keep_alive()
        self._say(f"edge listens on {self.settings.url}")
        if self._ray is not None:
            self._say("starting Ray")
            self._ray.start()
        self._launch = Launch(
            self.settings,
            self._control_port(),
            self._ray.address if self._ray else str(self.settings.ray_address),
        )
        self._launch.write()
        if self.settings.preforks:
            self._prefork()
        door = self._listen(config.door_socket)
        self._say(f"Ray is at {self._launch.ray_address}")
        for name in ("controller", "door"):
            child = Child(name, self._server(name, *([door] if name == "door" else [])))
            child.keep_alive()
            self._children.append(child)
        self._say("controller and door started")

    def _prefork(self) -> None:
        """Has a process import what replicas need, while the rest starts."""
        ray, log_file = self._ray, self.settings.log_dir / "prefork.log"
        assert ray is not None
        python.write(self.settings.run_dir)
        command = python.mother(self.settings.run_dir, self._stages)
        child = Child(
            "prefork", lambda: spawn(command, log_file, python.environ({**ray.worker_environ(), **ENVIRON}))
        )
        child.keep_alive()
        self._children.append(child)

    def _renew_certificate(self) -> bool:
        """True when the edge should read its certificate anew. Raises TlsError."""
        if not self.settings.secure:
            return False
        if self.settings.tls_client_ca is not None:
            check_authority(self.settings.tls_client_ca)
        certificate = Certificate.of(self.settings)
        renewed = certificate.renew()
        if renewed and certificate.own is None:
            self._say(f"certificate made; clients verify it with {certificate.authority}")
        return renewed

    def _watch_certificate(self) -> None:
        """A certificate that cannot be used leaves the edge with the one it has."""
        try:
            if self._renew_certificate() and edge.EdgeClient(edge_config(self.settings)).reread():
                self._say("the edge has the new certificate")
        except (TlsError, edge.EdgeError) as error:
            log.warning("certificate not renewed", error=str(error))

    def _control_port(self) -> int:
        """The chosen port, else the one of last time: replicas on a cluster that outlived us still know it."""
        if self.settings.control_port is not None:
            return self.settings.control_port
        last = self.settings.run_dir / "control-port"
        if last.exists() and is_free(self.settings.replica_host, int(last.read_text())):
            return int(last.read_text())
        port = free_port(self.settings.replica_host)
        last.write_text(str(port))
        return port

    def _listen(self, path: Path) -> int:
        """A listening socket that outlives the process which answers on it: nobody is refused while that one is
        started again.
        """
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(BACKLOG)
        return self._socket.fileno()

    def _server(self, name: str, *files: int) -> Callable[[], subprocess.Popen[bytes]]:
        """`files`: open ones that it gets, and is told the numbers of."""

        def start() -> subprocess.Popen[bytes]:
            assert self._launch is not None
            environ = self._ray.environ() if self._ray else None
            argv = [sys.executable, "-m", f"server.{name}", str(self._launch.write()), *map(str, files)]
            return spawn(argv, self.settings.log_dir / f"{name}.log", environ, files)

        return start

    def _look_after(self) -> None:
        if self._ray is not None and self._ray.keep_alive():
            assert self._launch is not None
            self._launch = Launch(self.settings, self._launch.control_port, self._ray.address)
            for child in self._children:
                if child.name in ("controller", "prefork"):  # what they know of Ray is of the one before
                    child.stop(1.0)
        for child in self._children:
            child.keep_alive()

    def _end(self) -> None:
        began = time.monotonic()
        self._say("stopping")
        for child in self._children:
            child.stop(STOP_TIMEOUT_S)
        if self._ray is not None:
            self._ray.stop()
        if self._socket is not None:
            self._socket.close()
        self.pid_file.remove()
        self._say(f"stopped in {time.monotonic() - began:.1f} s")


def _generation(store: Store, endpoint: str) -> int:
    """0 for one that is not there."""
    try:
        return endpoints.describe(store, endpoint).generation
    except NotFound:
        return 0

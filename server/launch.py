"""What the supervisor tells the processes it starts, through one file that only its user can read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from server.edge.routes import EdgeConfig
from server.edge.tls import Certificate
from server.nodes import NodeFiles, NodeIdentity, scheme
from server.settings import Settings, read_secret
from server.spec import Frozen

FILE = "launch.json"
TOKEN = "token"


class _Wire(Frozen):
    settings: Settings
    control_port: int
    ray_address: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Settings and the addresses that were chosen at start."""

    settings: Settings
    control_port: int
    ray_address: str

    @property
    def control_url(self) -> str:
        host = self.settings.replica_host
        return f"{scheme(self.nodes)}://{f'[{host}]' if ':' in host else host}:{self.control_port}"

    @property
    def nodes(self) -> NodeIdentity | None:
        """What processes of this Hearth show each other; None where they talk plainly."""
        return node_files(self.settings).read() if self.settings.nodes_secure else None

    @property
    def token(self) -> str:
        """Shared by the processes of one Hearth; lets a caller talk to the controller."""
        return read_secret(self.settings.state_dir / TOKEN)

    def write(self) -> Path:
        """Whoever reads meanwhile finds the old file or the new one."""
        path = self.settings.run_dir / FILE
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        wire = _Wire(settings=self.settings, control_port=self.control_port, ray_address=self.ray_address)
        with os.fdopen(descriptor, "w") as file:
            file.write(wire.model_dump_json())
        temporary.replace(path)
        return path

    @classmethod
    def read(cls, path: Path) -> Launch:
        wire = _Wire.model_validate_json(path.read_text())
        return cls(wire.settings, wire.control_port, wire.ray_address)


def node_files(settings: Settings) -> NodeFiles:
    return NodeFiles(settings.tls_dir / "nodes")


def edge_config(settings: Settings) -> EdgeConfig:
    """Where the edge binds and keeps its sockets."""
    run = settings.run_dir
    return EdgeConfig(
        host=settings.host,
        port=settings.port,
        run_dir=run,
        door_socket=run / "door.sock",
        certificate=Certificate.of(settings).bundle if settings.secure else None,
        client_authority=settings.tls_client_ca,
        nodes=node_files(settings) if settings.nodes_secure else None,
    )

"""The control plane behind a real uvicorn, its store, and real boto3 clients."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config
from starlette.applications import Starlette

from server.control.instances import Machine
from server.door.aws import AwsApi
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.vault.vault import Vault

ACCOUNT, REGION = "123456789012", "us-east-1"
SESSION = boto3.Session()
"""Keeps the service models it has read."""
ROLE = f"arn:aws:iam::{ACCOUNT}:role/hearth"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the newest schema."""
    file = tmp_path_factory.mktemp("control") / "empty.db"
    engine = connect(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file


@pytest.fixture
def store(tmp_path: Path, migrated: Path) -> Iterator[Store]:
    shutil.copy(migrated, tmp_path / "hearth.db")
    made = Store(connect(f"sqlite:///{tmp_path / 'hearth.db'}"), ACCOUNT, REGION)
    yield made
    made.engine.dispose()


class Shifting:
    """Hands calls to the store, or the vault, of the test that runs, so that one server serves a module."""

    def __init__(self) -> None:
        self.store: Store | Vault | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


VAULT = Shifting()


@pytest.fixture(scope="session")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the control plane finds replicas' logs."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def listening(log_dir: Path) -> Iterator[tuple[str, Shifting]]:
    """The address of a running control plane, and the seam to put a store behind it."""
    shifting = Shifting()
    app = Starlette(routes=AwsApi(shifting, Machine(), vault=VAULT, logs=log_dir).routes())  # type: ignore[arg-type]
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no delay for TCP by name
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}", shifting
    server.should_exit = server.force_exit = True
    thread.join(10)


@pytest.fixture
def address(listening: tuple[str, Shifting], store: Store, tmp_path: Path) -> str:
    listening[1].store = store
    VAULT.store = Vault(store.engine, tmp_path / "master.json")
    return listening[0]


def client(address: str, service: str = "sagemaker", *, region: str = REGION, checked: bool = True) -> Any:
    """A boto3 client; `checked=False` sends what botocore itself would refuse."""
    return SESSION.client(
        service,
        endpoint_url=address,
        region_name=region,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}, read_timeout=20, parameter_validation=checked),
    )


@pytest.fixture(scope="session")
def clients(listening: tuple[str, Shifting]) -> Iterator[tuple[Any, Any]]:
    made = client(listening[0]), client(listening[0], checked=False)
    yield made
    for each in made:
        each.close()


@pytest.fixture
def sagemaker(clients: tuple[Any, Any], address: str) -> Any:
    return clients[0]


@pytest.fixture
def unchecked(clients: tuple[Any, Any], address: str) -> Any:
    """A client that sends what botocore itself would refuse."""
    return clients[1]

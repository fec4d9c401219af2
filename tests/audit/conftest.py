"""A control plane and an object store whose calls are audited, behind a real uvicorn."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from server.audit.event import Call, record
from server.audit.keeper import Keeper
from server.audit.log import AuditLog
from server.control.audit import ControlAudit
from server.control.dispatch import Dispatcher
from server.control.instances import Machine
from server.door.audit import HearthAudit, ObjectsAudit
from server.door.aws import AwsApi
from server.door.control_client import ControlClient
from server.door.endpoints import EndpointsApi
from server.objects.app import application as object_store
from server.objects.request import is_object_request
from server.settings import Settings
from server.store.migrate import migrate
from server.store.store import Store, connect

ACCOUNT, REGION = "123456789012", "us-east-1"
SESSION = boto3.Session()


@dataclass
class Audited:
    url: str
    store: Store
    log: AuditLog
    keeper: Keeper
    folder: Path

    @property
    def engine(self) -> Engine:
        return self.store.engine

    def client(self, service: str, **choices: Any) -> Any:
        given = {"region_name": REGION, "aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "any", **choices}
        return SESSION.client(
            service, endpoint_url=self.url, config=Config(retries={"max_attempts": 0}, read_timeout=20), **given
        )

    def settle(self) -> None:
        """Has what waits written: an event that waits for it goes last."""
        self.log.commit(record(Call("hearth.internal", "Settle", "000000000000", "nowhere", read_only=False)))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of the newest schema."""
    file = tmp_path_factory.mktemp("audit") / "empty.db"
    engine = connect(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file.read_bytes()


@pytest.fixture
def engine(tmp_path: Path, empty: bytes) -> Iterator[Engine]:
    (tmp_path / "hearth.db").write_bytes(empty)
    made = connect(f"sqlite:///{tmp_path / 'hearth.db'}")
    yield made
    made.dispose()


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path)


@pytest.fixture
def audited(tmp_path: Path, engine: Engine, keeper: Keeper) -> Iterator[Audited]:
    settings = Settings(state_dir=tmp_path, audit_data_share=1.0)
    store = Store(engine, ACCOUNT, REGION)
    log = AuditLog(engine, keeper)
    objects = object_store(settings, observe=ObjectsAudit(log, settings).observe)
    dispatcher = Dispatcher(observe=ControlAudit(log, settings.audit_data_share).observe)
    own = EndpointsApi(store, ControlClient("http://127.0.0.1:9", "token"), HearthAudit(log, settings))
    routes = Starlette(routes=[*AwsApi(store, Machine(), dispatcher).routes(), *own.routes()])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (objects if is_object_request(scope) else routes)(scope, receive, send)

    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(128)
    server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    yield Audited(f"http://127.0.0.1:{bound.getsockname()[1]}", store, log, keeper, tmp_path)
    server.should_exit = server.force_exit = True
    thread.join(10)
    objects.close()
    log.close()

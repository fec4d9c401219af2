"""A control plane that is killed: `python -m tests.audit.writer SOCKET_FD FOLDER`. Also events made by the thousand."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import uvicorn
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from starlette.applications import Starlette

from server.audit import appending
from server.audit.caller import Caller
from server.audit.event import Call, Named, Record, record
from server.audit.keeper import Keeper
from server.audit.log import AuditLog
from server.control.audit import ControlAudit
from server.control.dispatch import Dispatcher
from server.control.instances import Machine
from server.door.aws import AwsApi
from server.identity.principal import Principal, root
from server.store.store import Store, connect

ACCOUNT, REGION = "123456789012", "us-east-1"
ROOT: Caller = root(ACCOUNT)


def made(name: str = "CreateThing", *, resource: str = "thing", caller: Principal | None = None) -> Record:
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:thing/{resource}"
    return record(
        Call("sagemaker.amazonaws.com", name, ACCOUNT, REGION, read_only=False, caller=caller or ROOT,
             parameters={"thingName": resource}, resources=[Named(arn, "AWS::SageMaker::Thing")])
    )  # fmt: skip


def write(engine: Engine, keeper: Keeper, records: list[Record]) -> None:
    """As one batch of the log's own writer."""
    with Session(engine) as session, session.begin():
        head = appending.append(session, keeper, keeper.key(make=True), records)
    keeper.note(head)


def main(descriptor: int, folder: Path) -> None:
    store = Store(connect(f"sqlite:///{folder / 'hearth.db'}"), ACCOUNT, REGION)
    observe = ControlAudit(AuditLog(store.engine, Keeper(folder)), 1.0).observe
    app = Starlette(routes=AwsApi(store, Machine(), Dispatcher(observe=observe)).routes())
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
    uvicorn.Server(config).run([socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

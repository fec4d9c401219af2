"""The control plane over one vault, behind a real uvicorn on a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from botocore.exceptions import ClientError
from starlette.applications import Starlette

from server.control.instances import Machine
from server.door.aws import AwsApi
from server.store.store import Store
from server.vault.vault import Vault
from tests.control.conftest import ACCOUNT, REGION, client

PATIENCE_S = 20.0


class Clock:
    """The time, and as much later as a test says."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Control:
    """Takes the place of an AWS endpoint; `restart` begins with nothing remembered."""

    def __init__(self, vault: Vault) -> None:
        app = Starlette(routes=AwsApi(Store(vault.engine, ACCOUNT, REGION), Machine(), vault=vault).routes())
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.bind(("127.0.0.1", 0))
        bound.listen(128)  # calls wait until the thread serves
        self._server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve(sockets=[bound])), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self._clients: list[Any] = []

    def client(self, service: str = "kms", **choices: Any) -> Any:
        self._clients.append(client(self.url, service, **choices))
        return self._clients[-1]

    def close(self) -> None:
        for each in self._clients:
            each.close()
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(PATIENCE_S)


def refused(call: Any, **request: Any) -> tuple[str, str]:
    """Code and message of the error that a call ends in."""
    try:
        answer = call(**request)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError(f"was not refused: {answer}")

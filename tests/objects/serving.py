"""The object store behind a real uvicorn, alone: `python -m tests.objects.serving SOCKET_FD FOLDER`."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import uvicorn
from botocore.config import Config

from server.objects.app import ObjectsApp, application
from server.settings import Settings
from server.store.migrate import migrate
from server.store.store import connect

PATIENCE_S = 60.0


def settings(folder: Path, **choices: Any) -> Settings:
    """Of a Hearth whose state is in `folder`, with the database that its keys are in."""
    made = Settings(state_dir=folder, **choices)
    engine = connect(made.database)
    migrate(engine)
    engine.dispose()
    return made


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Served:
    """An S3 endpoint on a thread of this process, at a free port or at the unix socket `path`.

    `tls` is a PEM file with a certificate for localhost and its key.
    """

    def __init__(self, app: ObjectsApp, path: Path | None = None, tls: Path | None = None) -> None:
        self.app = app
        self._socket = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        self._socket.bind(("127.0.0.1", 0) if path is None else str(path))
        self.port = int(self._socket.getsockname()[1]) if path is None else 0
        self._tls = tls
        self._server = uvicorn.Server(config(app, tls))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while not self._server.started:
            assert time.monotonic() < deadline, "uvicorn did not start"
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "uvicorn did not end"
        self.app.close()


def config(app: ObjectsApp, tls: Path | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app, interface="asgi3", http="httptools", loop="uvloop", ws="none", lifespan="off", proxy_headers=False,
        log_config=None, access_log=False, timeout_graceful_shutdown=1, server_header=False,
        ssl_certfile=tls,
    )  # fmt: skip


def client(url: str, **choices: Any) -> Any:
    """A real boto3 client; two attempts at most, so that a failure shows soon."""
    options: dict[str, Any] = {"retries": {"total_max_attempts": 2}, "read_timeout": 20, "connect_timeout": 5}
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any",
        config=Config(**{**options, **choices}),
    )  # fmt: skip


def main(descriptor: int, folder: Path) -> None:
    app = application(settings(folder))
    uvicorn.Server(config(app)).run([socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

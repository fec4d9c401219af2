"""`python -m server.door RUN_DIR/launch.json`: the door process, started by the supervisor."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from server import logs
from server.door.app import application
from server.launch import Launch, edge_config
from server.store.store import Store, connect


def main(launch: Launch) -> None:
    settings = launch.settings
    logs.configure("door", settings.log_level)
    socket = edge_config(settings).door_socket
    socket.unlink(missing_ok=True)
    store = Store(connect(settings.database), settings.account, settings.region)
    uvicorn.run(
        application(launch, store), uds=str(socket), ws="none", access_log=False, log_config=None,
        timeout_keep_alive=3600, timeout_graceful_shutdown=10, server_header=False, proxy_headers=False,
        backlog=4096,
    )  # fmt: skip


if __name__ == "__main__":
    main(Launch.read(Path(sys.argv[1])))

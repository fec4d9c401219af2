"""`python -m server.door RUN_DIR/launch.json SOCKET`: the door process, started by the supervisor, which holds the
listening socket of that number."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from server import logs
from server.door.app import application
from server.launch import Launch
from server.store.store import Store, connect


def main(launch: Launch, listening: int) -> None:
    settings = launch.settings
    logs.configure("door", settings.log_level)
    store = Store(connect(settings.database), settings.account, settings.region)
    uvicorn.run(
        application(launch, store), fd=listening, ws="none", access_log=False, log_config=None,
        timeout_keep_alive=3600, timeout_graceful_shutdown=10, server_header=False, proxy_headers=False,
        backlog=4096,
    )  # fmt: skip


if __name__ == "__main__":
    main(Launch.read(Path(sys.argv[1])), int(sys.argv[2]))

"""A Hearth of a measurement's own."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.crash.site import Site
from benchmarks.processes import Server, free_port

START_S = 180.0


@contextmanager
def started(
    folder: Path, database: str | None, logs: Path | None, config: Mapping[str, Any] | None = None
) -> Iterator[tuple[Site, Server]]:
    """A Hearth in `folder` with the settings of `config`, none by default; its logs are copied to `logs` at the end."""
    port, state = free_port(), folder / "state"
    (folder / "hearth.yaml").write_text(json.dumps(dict(config or {})))
    command = [sys.executable, "-m", "server", "up", "--config", str(folder / "hearth.yaml"), "--port", str(port)]
    env = {"HEARTH_DATABASE_URL": database} if database else {}
    server = Server([*command, "--state", str(state)], folder / "up.log", env, Path(__file__).parents[2])
    try:
        site = Site(f"http://127.0.0.1:{port}", state, server.pids()[0])
        _await(server, site)
        yield site, server
    finally:
        server.stop()
        if logs is not None:
            shutil.copytree(state / "logs", logs, dirs_exist_ok=True)
            shutil.copy(folder / "up.log", logs)


def _await(server: Server, site: Site) -> None:
    """Until the controller knows every replica there is."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        server.check()
        try:
            if httpx.get(f"{site.url}/hearth/state", timeout=5.0, trust_env=False).json()["settled"]:
                return
        except (httpx.HTTPError, ValueError, KeyError):
            time.sleep(0.2)
    raise RuntimeError(f"Hearth was not ready within {START_S:.0f} s")

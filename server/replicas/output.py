"""Where a replica's output goes: a log file of its own beside the other components' logs."""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import MemoryHandler
from pathlib import Path

KEPT = 10
"""Logs of earlier replicas kept for each endpoint."""


def redirect(log_dir: Path, endpoint: str, variant: str, replica_id: str) -> None:
    """Sends both outputs of this process, and of every process it starts, to one file below `log_dir`.

    Does nothing on a node that does not have `log_dir`: there the output stays in Ray's own worker logs.
    """
    if not log_dir.is_dir():
        return
    folder = log_dir / "endpoints" / endpoint
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    file = os.open(folder / f"{variant}-{replica_id}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(file, number)
    os.close(file)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def keep_open(logger: str) -> None:
    """Has the buffering handlers of `logger` outlive whatever configures logging later in this process.

    `logging.config.dictConfig`, which vLLM calls when it is imported, closes every handler there is, and a closed
    `MemoryHandler` has lost its file. Ray Serve asks each replica for that file when its controller was restarted,
    and stops a replica that cannot tell.
    """
    for handler in logging.getLogger(logger).handlers:
        if isinstance(handler, MemoryHandler):
            handler.close = handler.flush  # type: ignore[method-assign]

"""A replica's output and what keeps it whole."""

from __future__ import annotations

import logging
from logging.config import dictConfig
from logging.handlers import MemoryHandler
from pathlib import Path

from server.replicas.output import keep_open


def test_a_library_that_configures_logging_takes_no_handler_away(tmp_path: Path) -> None:
    """Ray Serve reads `handler.target.baseFilename` of its logger in every replica."""
    log = tmp_path / "serve.log"
    logger = logging.getLogger("test-keep-open")
    logger.propagate = False
    target = logging.FileHandler(log)
    handler = MemoryHandler(capacity=1, target=target)
    logger.addHandler(handler)
    keep_open(logger.name)
    dictConfig({"version": 1, "disable_existing_loggers": False})
    assert handler.target is target
    logger.warning("still written")
    handler.flush()
    assert "still written" in log.read_text()
    target.close()

"""Says in a replica's log how long each step of its start took; `benchmarks.coldstart` draws them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Logs when `step` began (seconds since 1970) and how many seconds it took, however it ends."""
    began = time.time()
    try:
        yield
    finally:
        log.info("step", step=step, began=round(began, 3), seconds=round(time.time() - began, 3))

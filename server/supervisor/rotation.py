"""Bounds the logs: a log that has grown too large is copied aside and emptied.

Every writer appends, so emptying a file under it loses no more than what is written between copy and cut.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LARGEST_BYTES = 64 * 1024 * 1024


def rotate(log_dir: Path, largest: int = LARGEST_BYTES) -> list[Path]:
    """Rotates what is too large to ``NAME.log.1`` and gives what it rotated."""
    grown = [file for file in log_dir.rglob("*.log") if file.stat().st_size > largest]
    for file in grown:
        shutil.copyfile(file, file.with_name(file.name + ".1"))
        os.truncate(file, 0)
    return grown

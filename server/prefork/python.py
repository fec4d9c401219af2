"""The command that stands in for Python where a process may be forked, and the mother's own command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.prefork import starter
from server.prefork.imported import PRELOAD, THREADS, Stage, preloads

SOCKET, SCRIPT = "prefork.sock", "python"


def script(run_dir: Path) -> Path:
    """Where the command is that takes Python's arguments."""
    return run_dir / SCRIPT


def write(run_dir: Path) -> Path:
    """Makes that command."""
    command = [sys.executable, "-I", "-S", starter.__file__, str(run_dir / SOCKET), sys.executable]
    path = script(run_dir)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o700)
    return path


def mother(run_dir: Path, stages: Sequence[Stage]) -> list[str]:
    return [sys.executable, "-m", "server.prefork.mother", str(run_dir / SOCKET), *stages]


def environ(base: Mapping[str, str]) -> dict[str, str]:
    """The mother's environment: what Ray gives to its workers, and what vLLM preloads into its engines."""
    preloaded = [*filter(None, (preloads(), base.get(PRELOAD)))]
    return {**base, THREADS: base.get(THREADS, "1"), **({PRELOAD: ":".join(preloaded)} if preloaded else {})}

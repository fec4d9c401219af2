"""`hearth logs`: the last lines of a log, and what follows."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from rich.console import Console

from server.cli.client import fail
from server.settings import Settings

COMPONENTS = ("edge", "door", "controller", "prefork")


def show(settings: Settings, name: str, lines: int, follow: bool, console: Console) -> None:
    """Prints the last `lines` of a component's log or of an endpoint's replicas' logs."""
    files = _files(settings, name)
    if not files:
        raise fail(f"No log of {name!r}. Components: {', '.join(COMPONENTS)}; else an endpoint that has run.")
    for file in files:
        if len(files) > 1:
            console.print(f"==> {file.name} <==", style="bold", highlight=False)
        with file.open(errors="replace") as handle:
            for line in deque(handle, maxlen=lines):
                console.print(line.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
    if follow:
        _follow(files, console)


def _files(settings: Settings, name: str) -> list[Path]:
    if name in COMPONENTS:
        return [file for file in (settings.log_dir / f"{name}.log",) if file.exists()]
    folder = settings.log_dir / "endpoints" / name
    return sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime)


def _follow(files: list[Path], console: Console) -> None:
    handles = [file.open(errors="replace") for file in files]
    for handle in handles:
        handle.seek(0, 2)
    try:
        while True:
            quiet = True
            for handle in handles:
                for line in handle:
                    quiet = False
                    console.print(line.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
            if quiet:
                time.sleep(0.2)
    except KeyboardInterrupt:
        return

"""Processes, open files and memory of one Hearth, by kind of process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from benchmarks.processes import Server

KINDS = {
    "haproxy": "edge", "server.door": "door", "server.controller": "controller", "raylet/raylet": "raylet",
    "gcs_server": "gcs", "ServeController": "Serve's controller", "ServeReplica": "replica", "EngineCore": "engine",
    "server up": "supervisor",
}  # fmt: skip
"""By a part of the command line; the first that fits."""
OTHER = "other"
MIB = 2**20


@dataclass(slots=True)
class Group:
    """All processes of one kind."""

    processes: int = 0
    files: int = 0
    """Open ones."""
    mib: float = 0.0
    """Resident memory."""


@dataclass(frozen=True, slots=True)
class Count:
    """At one moment (`time.monotonic()`)."""

    at: float
    groups: Mapping[str, Group]


def count(server: Server) -> Count:
    groups: dict[str, Group] = {}
    for pid in server.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            title, files, memory = " ".join(process.cmdline()), process.num_fds(), process.memory_info().rss
            group = groups.setdefault(next((kind for part, kind in KINDS.items() if part in title), OTHER), Group())
            group.processes += 1
            group.files += files
            group.mib += memory / MIB
    return Count(time.monotonic(), groups)


def slope(counts: Sequence[Count], kind: str) -> float | None:
    """MiB an hour that memory grew by: a straight line through all counts but the first; None for too few."""
    later = [(each.at, each.groups[kind].mib) for each in counts[1:] if kind in each.groups]
    if len(later) < 3:
        return None
    times, sizes = np.array(later).T
    return float(np.polyfit(times - times[0], sizes, 1)[0] * 3600)


def left_behind(before: Count, after: Count, slack: float = 1.25, more: int = 20) -> list[str]:
    """What there is more of than at the start. Connections that are kept open are allowed for by `slack` and `more`."""
    found = []
    for kind, group in after.groups.items():
        then = before.groups.get(kind, Group())
        if kind != OTHER and group.processes > then.processes:
            found.append(f"{kind}: {group.processes} processes, {then.processes} at the start")
        if group.files > then.files * slack + more:
            found.append(f"{kind}: {group.files} open files, {then.files} at the start")
    return found

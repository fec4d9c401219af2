"""How much memory models take: what the kernel says of this process and of those that run customers' code."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes of memory that only going away frees: without pages that are files' and can be read again."""

    own: int
    """This process, without those it started."""
    workers: Mapping[int, int] = field(default_factory=dict)
    """Each worker, by its process id, with all that it started."""


def taken(workers: Collection[int]) -> Taken:
    """Of this process and `workers`, each the leader of its process group. Blocking: milliseconds."""
    found = dict.fromkeys(workers, 0)
    if workers:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                if (group := os.getpgid(child.pid)) in found:
                    found[group] += _of(child.pid)
    return Taken(_of(os.getpid()), found)


def trim() -> None:
    """Gives the kernel back what was freed, where the C library can (glibc)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def machine() -> int:
    """Bytes that this machine, or the container that it is, has."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(CGROUP_LIMIT.read_text()))
    return int(total)


def _of(pid: int) -> int:
    """0 for a process that is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        values = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
        return sum(int(value.split()[0]) for value in values.values()) * 1024
    return 0

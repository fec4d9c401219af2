"""Requests/s of a Hearth that asks every caller and keeps every call, over those of one that does neither."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

from benchmarks.arms import GuardedArm, HearthArm, Setup
from benchmarks.ratios import paired
from benchmarks.serving import CPU_ENV, DEFAULT_MODEL, ENGINE, Load, rounds, start

LOADS = (Load(1, 1, stream=False), Load(16, 1, stream=False), Load(16, 16, stream=False, longer=1.5))


def measure(count: int, seconds: float) -> list[str]:
    """Markdown. Raises RuntimeError when a server ends or a request is not answered."""
    setup = Setup(DEFAULT_MODEL, ENGINE, CPU_ENV, Path(tempfile.mkdtemp(prefix="hearth-guard-")))
    arms = {arm.label: arm for arm in (GuardedArm(setup), HearthArm(setup))}
    try:
        start(arms)
        table = rounds(arms, LOADS, count, seconds)
    finally:
        for arm in arms.values():
            if arm.started:
                arm.server.signal(signal.SIGCONT)
                arm.stop()
    lines = ["| load | on, requests/s | off | ratio |", "| --- | ---: | ---: | ---: |"]
    for load, found in table.items():
        if failed := sum(figures["failed"] for each in found.values() for figures in each):
            raise RuntimeError(f"{load}: {failed:.0f} requests were not answered")
        on, off = ([figures["requests/s"] for figures in found[label]] for label in ("guarded", "hearth"))
        middle = len(on) // 2
        lines.append(f"| {load} | {sorted(on)[middle]:.1f} | {sorted(off)[middle]:.1f} | {paired(on, off)} |")
    return lines

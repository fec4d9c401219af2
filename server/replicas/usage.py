"""What a replica's processes use, as SageMaker reports it for an instance."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

import psutil

from server.metrics.periods import PERIOD_S, Periods
from server.prefork.adopted import forked


class Usage:
    """CPU time and memory of this process and all below it."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def read(self) -> tuple[float, float]:
        """CPU in percent of one core since the last reading (200: two cores busy), memory in percent of the machine's.

        The first reading of a process says 0 for its CPU.
        """
        cpu = memory = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                cpu += process.cpu_percent()
                memory += process.memory_percent()
        return cpu, memory

    def _tree(self) -> list[psutil.Process]:
        own = psutil.Process()
        living = {process.pid: process for process in (own, *own.children(recursive=True), *_group())}
        known = {pid: self._processes.get(pid, process) for pid, process in living.items()}
        self._processes = {pid: process for pid, process in known.items() if process == living[pid]}
        return list(self._processes.values())


def _group() -> Iterator[psutil.Process]:
    """What belongs to a forked replica: its engine is a fork too, and no child of it, but of its process group."""
    if not forked():
        return
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(pid) == os.getpgrp():
                yield psutil.Process(pid)


async def watch(periods: Periods) -> None:
    """Measures once a period, for ever."""
    usage = Usage()
    while True:
        cpu, memory = await asyncio.to_thread(usage.read)
        periods.record("CPUUtilization", cpu)
        periods.record("MemoryUtilization", memory)
        await asyncio.sleep(PERIOD_S)

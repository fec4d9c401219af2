"""Runs the shares of a load: one in this process, several in processes that start together."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from time import monotonic

from benchmarks.worker import Harvest, Share, run

LEAD_S = 0.1
"""Time between the decision to start and the start, so that every worker is waiting by then."""

Counter = Callable[[int], None]


def harvest(shares: Sequence[Share], progress: Counter | None) -> list[Harvest]:
    """What each share brought back; `progress` gets the number of requests finished, twice a second."""
    context = multiprocessing.get_context("spawn")
    finished: Synchronized[int] = context.Value("Q", 0)
    over = threading.Event()
    reporter = threading.Thread(target=_report, args=(finished, over, progress), daemon=True)
    if progress is not None:
        reporter.start()
    try:
        if len(shares) == 1:
            return [run(shares[0], _start(shares[0]), _tick(finished))]
        barrier = context.Barrier(len(shares))
        started: Synchronized[float] = context.Value("d", 0.0)
        given = (barrier, started, finished)
        with ProcessPoolExecutor(len(shares), context, _enlist, given) as pool:
            return list(pool.map(_serve, shares))
    finally:
        over.set()
        if progress is not None:
            reporter.join()


def _start(share: Share) -> float:
    return monotonic() + LEAD_S + share.warmup_s


def _tick(finished: Synchronized[int]) -> Callable[[], None]:
    def tick() -> None:
        with finished.get_lock():
            finished.value += 1

    return tick


def _report(finished: Synchronized[int], over: threading.Event, progress: Counter) -> None:
    while not over.wait(0.5):
        progress(finished.value)
    progress(finished.value)


_enlisted: tuple[Barrier, Synchronized[float], Synchronized[int]]
"""In a worker process: what the pool's initializer gave it. Locks cannot travel with a task."""


def _enlist(barrier: Barrier, started: Synchronized[float], finished: Synchronized[int]) -> None:
    global _enlisted
    _enlisted = (barrier, started, finished)


def _serve(share: Share) -> Harvest:
    barrier, started, finished = _enlisted
    barrier.wait(60)
    if share.offset == 0:
        started.value = _start(share)
    barrier.wait(60)
    return run(share, started.value, _tick(finished))

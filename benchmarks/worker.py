"""One process's share of a load: it sends, stamps and counts, and watches itself while it does."""

from __future__ import annotations

import asyncio
import gc
import resource
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from time import monotonic, process_time

import uvloop

from benchmarks.arrivals import Arrival, Timer
from benchmarks.client import Client, Reply, TransportError
from benchmarks.dialects import Ask, Outcome, read
from benchmarks.target import Encoder, Target

PROBE_S = 0.02
"""Interval of the event-loop lag probe."""


@dataclass(frozen=True)
class Share:
    """What one worker does. Either `concurrency` (closed loop) or `arrivals` (open loop) is set.

    Times count from the start of measuring; warm-up runs before it, and arrivals in it are negative.
    A closed loop ends after `seconds`, or after `requests` sent since measuring began.
    """

    target: Target
    prompts: tuple[str, ...]
    max_tokens: int
    warmup_s: float
    seconds: float | None = None
    requests: int | None = None
    concurrency: int | None = None
    arrivals: tuple[Arrival, ...] | None = None
    offset: int = 0
    stride: int = 1
    """The worker takes prompts `offset`, `offset + stride`, ... so that workers share none."""


@dataclass(slots=True)
class Record:
    """One request. Latencies count from `scheduled`: the arrival, or the sending in a closed loop."""

    scheduled: float
    sent: float
    ended: float
    outcome: Outcome


@dataclass(slots=True)
class Harvest:
    """What a worker brings back. `start`: monotonic second at which measuring began."""

    start: float
    records: list[Record] = field(default_factory=list)
    lags: array[float] = field(default_factory=lambda: array("d"))
    """How late the event loop ran a callback, in seconds, sampled every `PROBE_S`."""
    cpu_share: float = 0.0
    """CPU seconds of this process per second of wall time, while measuring."""
    reconnects: int = 0


class Alarm:
    """Wakes a coroutine at a monotonic time, precisely (see `arrivals.Timer`)."""

    def __init__(self) -> None:
        self._timer = Timer()
        self._waiter: asyncio.Future[None] | None = None
        asyncio.get_running_loop().add_reader(self._timer.fd, self._fired)

    async def until(self, at: float) -> None:
        """Yields to other callbacks even when `at` has gone by."""
        if at <= monotonic():
            await asyncio.sleep(0)
            return
        self._waiter = asyncio.get_running_loop().create_future()
        self._timer.arm(at)
        await self._waiter

    def _fired(self) -> None:
        self._timer.acknowledge()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._timer.fd)
        self._timer.close()


class Worker:
    def __init__(self, share: Share, start: float, progress: Callable[[], None]) -> None:
        self._share = share
        self._encoder = Encoder(share.target)
        self._client = Client(self._encoder.origin, timeout_s=share.target.timeout_s)
        self._numbers = count(share.offset, share.stride)
        self._progress = progress
        self._left = share.requests
        self._harvest = Harvest(start)

    async def run(self) -> Harvest:
        probe = asyncio.create_task(self._probe())
        alarm = Alarm()
        await alarm.until(self._harvest.start - self._share.warmup_s)
        if self._share.arrivals is not None:
            await self._open(alarm, self._share.arrivals)
        else:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._share.concurrency or 1):
                    group.create_task(self._closed())
        alarm.close()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        self._client.close()
        self._harvest.reconnects = self._client.reconnects
        return self._harvest

    async def _open(self, alarm: Alarm, arrivals: tuple[Arrival, ...]) -> None:
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                request = self._encoder.encode(self._ask(arrival))
                at = self._harvest.start + arrival.at
                await alarm.until(at)
                group.create_task(self._send(request, at))

    async def _closed(self) -> None:
        start, seconds = self._harvest.start, self._share.seconds
        while True:
            request = self._encoder.encode(self._ask(None))
            now = monotonic()
            if seconds is not None and now >= start + seconds:
                return
            if self._left is not None and now >= start:
                if self._left == 0:
                    return
                self._left -= 1
            await self._send(request, now)

    def _ask(self, arrival: Arrival | None) -> Ask:
        share = self._share
        prompt = share.prompts[next(self._numbers) % len(share.prompts)]
        if arrival is None:
            return Ask(prompt, share.max_tokens)
        return Ask(arrival.prompt or prompt, arrival.max_tokens or share.max_tokens)

    async def _send(self, request: bytes, scheduled: float) -> None:
        sent = monotonic()
        try:
            reply: Reply = await self._client.send(request)
        except TransportError as error:
            self._harvest.records.append(Record(scheduled, sent, monotonic(), Outcome(error.kind)))
            await asyncio.sleep(0.01)  # a closed loop must not spin on a server that is gone
        else:
            outcome = read(self._encoder.spoken, reply)
            self._harvest.records.append(Record(scheduled, sent, reply.ended, outcome))
        self._progress()

    async def _probe(self) -> None:
        alarm, start = Alarm(), self._harvest.start
        cpu = process_time()
        try:
            await alarm.until(start)
            cpu, at = process_time(), monotonic()
            while True:
                at = max(at + PROBE_S, monotonic())
                await alarm.until(at)
                self._harvest.lags.append(monotonic() - at)
        finally:
            self._harvest.cpu_share = (process_time() - cpu) / max(monotonic() - start, 1e-9)
            alarm.close()


def run(share: Share, start: float, progress: Callable[[], None]) -> Harvest:
    """Run a share to its end in this process; `start` is the monotonic second measuring begins."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.collect()
    gc.freeze()
    loop = uvloop.new_event_loop()  # not uvloop.run: it would unset the event loop of the caller's thread
    try:
        return loop.run_until_complete(Worker(share, start, progress).run())
    finally:
        loop.close()
        gc.unfreeze()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

"""Sends what the generators make, and keeps what must not happen."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from benchmarks.fuzz import aws, objects, web, wire
from benchmarks.fuzz.targets import WAKE_S, Held, Targets
from benchmarks.fuzz.wire import Answer, Broken, Connection, Sent

FAMILIES: tuple[tuple[float, Callable[[Random], Sent]], ...] = (
    (0.45, aws.call), (0.2, objects.call), (0.1, web.hearth), (0.13, web.invocation), (0.12, web.openai),
)  # fmt: skip
BOUND_S = 40.0
"""How long an answer is waited for."""
LATE_S = WAKE_S + 10.0
"""An answer that took longer is late. Nothing here takes a second; other work on the machine may take its cores."""
LAG_S = 0.05
SETTLE_S = 1.0
GROWTH_MIB = 96.0
GROWTH_FILES = 16
KEPT = 20
"""Failures that are shown."""


@dataclass(frozen=True, slots=True)
class Failure:
    number: int
    what: str
    request: str


@dataclass(slots=True)
class Tally:
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    sent: int = 0
    seconds: float = 0.0
    warm: Mapping[str, Held] = field(default_factory=dict)
    end: Mapping[str, Held] = field(default_factory=dict)

    def count(self, number: int, sent: Sent, answer: Answer | None, seconds: float, problem: str) -> None:
        self.sent += 1
        self.slowest[sent.family] = max(self.slowest.get(sent.family, 0.0), seconds)
        if answer is not None:
            self.statuses.setdefault(sent.family, Counter())[answer.status] += 1
            if answer.status == 500:
                problem = f"500: {answer.body[:300]!r}"
            elif seconds > LATE_S:
                problem = f"{answer.status} after {seconds:.1f} s"
        if problem:
            self.failed += 1
            if len(self.failures) < KEPT:
                shown = repr(sent.bytes()[:700])
                self.failures.append(Failure(number, f"{sent.target} {sent.family}: {problem}", shown))

    @property
    def grown(self) -> list[str]:
        """What is larger at the end than it was once everything had been used."""
        found = []
        for name, end in self.end.items():
            warm = self.warm.get(name, end)
            if end.rss_mib > warm.rss_mib + GROWTH_MIB:
                found.append(f"{name}: {warm.rss_mib:.0f} MiB of memory became {end.rss_mib:.0f}")
            if end.files > warm.files + GROWTH_FILES:
                found.append(f"{name}: {warm.files} open files became {end.files}")
        return found


def request(seed: int, number: int) -> Sent:
    """Request `number` of a run; the same for the same seed."""
    random = Random(f"{seed}:{number}")
    (make,) = random.choices([make for _, make in FAMILIES], [weight for weight, _ in FAMILIES])
    sent = make(random)
    wire.bend(sent, random)
    return sent


async def run(targets: Targets, seed: int, first: int, count: int, seconds: float, workers: int) -> Tally:
    """Ends after `count` requests or `seconds`, whichever comes first."""
    tally, began = Tally(), time.monotonic()
    numbers = iter(range(first, first + count))

    async def work() -> None:
        connections = {name: Connection(address) for name, address in targets.addresses.items()}
        for number in numbers:
            await _one(tally, connections, lag, number, request(seed, number))
            if not tally.warm and tally.sent >= count // 3:
                tally.warm = targets.held()
            if time.monotonic() - began > seconds:
                break
        for connection in connections.values():
            await connection.close()

    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    watching.cancel()
    tally.seconds = time.monotonic() - began
    await asyncio.sleep(SETTLE_S)
    for name in targets.dead():
        tally.failed += 1
        tally.failures.append(Failure(-1, f"{name} is no longer alive", ""))
    tally.end = {} if targets.dead() else targets.held()
    return tally


class Lag:
    """How long this process itself was busy making requests, while it should have read answers."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(LAG_S)
            self.seconds += max(0.0, time.monotonic() - began - 2 * LAG_S)


async def _one(tally: Tally, connections: Mapping[str, Connection], lag: Lag, number: int, sent: Sent) -> None:
    connection, answer, problem = connections[sent.target], None, ""
    began = time.monotonic() - lag.seconds
    try:
        async with asyncio.timeout(BOUND_S):
            answer = await connection.exchange(sent)
    except TimeoutError:
        await connection.close()
        problem = f"no answer in {BOUND_S:.0f} s"
    except (Broken, OSError) as error:
        problem = f"broke off: {error}"
    tally.count(number, sent, answer, max(0.0, time.monotonic() - lag.seconds - began), problem)

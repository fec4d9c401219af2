"""Deficit round robin, and the admission around it: random histories against what a fair queue promises."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.errors import Throttled
from server.guard.admission import Admission, Stage, Turn
from server.guard.fair import QUANTUM, Entry, FairQueue

NAMES = ("a", "b", "c", "d")


class QueueHistory(RuleBasedStateMachine):
    """Each entry comes out once or is removed, a principal's own in order; those that always wait get the same."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.waiting: dict[str, list[Entry[int]]] = {name: [] for name in NAMES}
        self.number = 0
        self.served: Counter[str] = Counter()
        """Cost, since the last principal came or went empty."""
        self.largest = 1

    def _anew(self) -> None:
        self.served.clear()

    @rule(name=st.sampled_from(NAMES), cost=st.one_of(st.just(1), st.integers(1, 40)), times=st.integers(1, 6))
    def add(self, name: str, cost: int, times: int) -> None:
        if not self.waiting[name]:
            self._anew()
        self.largest = max(self.largest, cost)
        for _ in range(times):
            self.number += 1
            self.waiting[name].append(self.queue.add(name, cost, self.number))

    @precondition(lambda self: bool(len(self.queue)))
    @rule()
    def pop(self) -> None:
        entry = self.queue.pop()
        assert entry is not None
        assert self.waiting[entry.principal].pop(0) is entry
        self.served[entry.principal] += entry.cost
        if not self.waiting[entry.principal]:
            self._anew()

    @precondition(lambda self: bool(len(self.queue)))
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if self.waiting[name]]))
        entry = data.draw(st.sampled_from(self.waiting[name]))
        self.waiting[name].remove(entry)
        assert self.queue.remove(entry)
        assert not self.queue.remove(entry)
        if not self.waiting[name]:
            self._anew()

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == sum(map(len, self.waiting.values()))
        assert all(self.queue.waiting(name) == len(entries) for name, entries in self.waiting.items())
        longest = self.queue.longest()
        if longest is None:
            assert not len(self.queue)
        else:
            assert len(self.waiting[longest]) == max(map(len, self.waiting.values()))
            assert self.queue.newest(longest) is self.waiting[longest][-1]

    @invariant()
    def fair(self) -> None:
        """Of principals that waited all the while none got more than the largest cost, each way, above another."""
        got = [self.served[name] for name in NAMES if self.waiting[name]]
        if got:
            assert max(got) - min(got) <= 2 * (self.largest + QUANTUM)


TestQueueHistory = QueueHistory.TestCase
TestQueueHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(1, 1000), st.integers(0, 40))
def test_a_newcomer_is_behind_one_turn_of_the_others(many: int, after: int) -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(many):
        queue.add("flood", 1, number)
    for _ in range(min(after, many)):
        queue.pop()
    queue.add("one", 1, -1)
    order = [entry.item for _ in range(2) if (entry := queue.pop())]
    assert -1 in order


def test_a_costly_request_waits_for_its_worth_and_not_longer() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(200):
        queue.add("light", 1, f"light {number}")
    queue.add("heavy", 30, "heavy")
    order = [entry.item for _ in range(201) if (entry := queue.pop())]
    assert 28 <= order.index("heavy") <= 32


class Simulated:
    """An engine of `capacity` that ends what it runs when told to."""

    def __init__(self, capacity: int) -> None:
        self.admission = Admission(capacity)
        self.running: dict[int, tuple[str, Turn]] = {}
        self.started: list[int] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.displaced: list[int] = []
        self.ended: dict[int, asyncio.Event] = {}

    def ask(self, number: int, principal: str, slots: int = 1, cost: int = 1) -> None:
        self.ended[number] = asyncio.Event()
        self.tasks[number] = asyncio.create_task(self._answer(number, principal, slots, cost))

    async def _answer(self, number: int, principal: str, slots: int, cost: int) -> None:
        turn = self.admission.enter(principal, slots, cost)
        try:
            await self.admission.wait(turn)
            self.running[number] = (principal, turn)
            self.started.append(number)
            await self.ended[number].wait()
        except Throttled:
            self.displaced.append(number)
        finally:
            self.running.pop(number, None)
            self.admission.leave(turn)
            self.admission.leave(turn)

    def end(self, number: int) -> None:
        self.ended[number].set()


async def settled() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(("ask", "ask", "end", "leave", "room")), st.sampled_from(NAMES),
                       st.integers(1, 3), st.integers(0, 50)), max_size=60),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_none_is_lost_and_none_runs_twice(capacity: int, history: list[tuple[str, str, int, int]]) -> None:
    async def live() -> None:
        engine = Simulated(capacity)
        for number, (what, principal, slots, pick) in enumerate(history):
            living = [n for n, task in engine.tasks.items() if not task.done()]
            if what == "ask":
                engine.ask(number, principal, slots, slots)
            elif what == "end" and engine.running:
                engine.end(sorted(engine.running)[pick % len(engine.running)])
            elif what == "leave" and living:
                engine.tasks[living[pick % len(living)]].cancel()
            elif what == "room":
                before = engine.admission.waiting
                made = engine.admission.make_room(principal)
                assert engine.admission.waiting == before - made
            if pick % 2:
                await settled()
                assert engine.admission.running == sum(turn.slots for _, turn in engine.running.values())
                assert engine.admission.running < capacity + 3
                assert not engine.admission.waiting or engine.admission.running >= capacity
        for _ in range(len(history) + 1):
            await settled()
            for number in list(engine.running):
                engine.end(number)
        await asyncio.gather(*engine.tasks.values(), return_exceptions=True)
        assert (engine.admission.running, engine.admission.waiting) == (0, 0)
        assert not engine.admission._held
        assert len(engine.started) == len(set(engine.started))
        assert not set(engine.started) & set(engine.displaced)
        cancelled = {number for number, task in engine.tasks.items() if task.cancelled()}
        assert set(engine.tasks) - cancelled == set(engine.started) - cancelled | set(engine.displaced)

    asyncio.run(live())


async def test_one_principal_alone_keeps_the_engine_full() -> None:
    engine = Simulated(4)
    for number in range(40):
        engine.ask(number, "a")
    for ended in range(36):
        await settled()
        assert len(engine.running) == 4
        engine.end(ended)
    assert engine.started[:10] == list(range(10))
    for number in range(36, 40):
        engine.end(number)
    await asyncio.gather(*engine.tasks.values())


async def test_a_single_request_does_not_wait_behind_a_flood() -> None:
    engine = Simulated(4)
    for number in range(1000):
        engine.ask(number, "flood")
    await settled()
    engine.ask(5000, "one")
    await settled()
    ends = 0
    while 5000 not in engine.started:
        engine.end(min(engine.running))
        ends += 1
        await settled()
    assert ends <= 2
    for task in engine.tasks.values():
        task.cancel()
    await asyncio.gather(*engine.tasks.values(), return_exceptions=True)


async def test_a_turn_that_came_as_its_client_left_is_the_next_ones() -> None:
    admission = Admission(1)
    first, second, third = (admission.enter("a", 1, 1) for _ in range(3))
    waiting = asyncio.create_task(admission.wait(second))
    await settled()
    admission.leave(first)
    assert second.stage is Stage.RUNNING
    waiting.cancel()  # admitted, and gone before it knew
    with pytest.raises(asyncio.CancelledError):
        await waiting
    admission.leave(second)
    assert (third.stage, admission.running) == (Stage.RUNNING, 1)

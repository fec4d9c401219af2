"""The batcher: who shares a batch, what one bad input does to the others, bounds, leaving and stopping."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import BadRequest, HearthError, ModelFailed, Throttled, Unavailable
from server.replicas.batching import Batcher


class Doubler:
    """Doubles numbers, refuses negative ones; waits in its worker thread while `gate` is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> list[int | HearthError]:
        self.batches.append(list(numbers))
        self.threads.add(threading.get_ident())
        self.started.release()
        assert self.gate.wait(30)
        return [BadRequest(f"{number} is negative") if number < 0 else 2 * number for number in numbers]

    async def running(self) -> None:
        """Returns once a batch has begun."""
        assert await asyncio.to_thread(self.started.acquire, timeout=30)


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
async def batcher(doubler: Doubler) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(doubler, max_size=4, max_wait_ms=2, max_waiting=64)
    yield batcher
    doubler.gate.set()
    await batcher.stop()


async def test_answers_in_order(batcher: Batcher[int, int]) -> None:
    assert await batcher.submit([3, 1, 2]) == [6, 2, 4]
    assert await batcher.submit([]) == []


async def test_what_arrives_while_busy_is_the_next_batch(
    doubler: Doubler, batcher: Batcher[int, int]
) -> None:
    doubler.gate.clear()
    first = asyncio.create_task(batcher.submit([0]))
    await doubler.running()
    rest = [asyncio.create_task(batcher.submit([number])) for number in range(1, 7)]
    await asyncio.sleep(0)
    doubler.gate.set()
    assert await asyncio.gather(first, *rest) == [[2 * number] for number in range(7)]
    assert doubler.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert doubler.threads.isdisjoint({threading.get_ident()})
    assert len(doubler.threads) == 1


async def test_a_batch_lingers_for_company_only_while_there_is_some(doubler: Doubler) -> None:
    patient: Batcher[int, int] = Batcher(doubler, max_size=3, max_wait_ms=3_600_000, max_waiting=8)
    async with asyncio.timeout(30):
        assert await patient.submit([1]) == [2]  # alone before: does not wait for an hour
        assert await patient.submit([1, 2]) == [2, 4]
        pair = asyncio.create_task(patient.submit([3, 4]))  # in company before: waits for a third
        await asyncio.sleep(0.02)
        assert len(doubler.batches) == 2
        assert await patient.submit([5]) == [10]
        assert await pair == [6, 8]
    assert doubler.batches[-1] == [3, 4, 5]
    await patient.stop()


async def test_a_linger_ends(doubler: Doubler, batcher: Batcher[int, int]) -> None:
    async with asyncio.timeout(30):
        assert await batcher.submit([1, 2]) == [2, 4]
        assert await batcher.submit([3]) == [6]


async def test_one_bad_input_fails_alone(doubler: Doubler, batcher: Batcher[int, int]) -> None:
    doubler.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([number])) for number in (0, 1, -2, 3)]
    await doubler.running()
    doubler.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[0] == [0]
    assert outcomes[1] == [2]
    assert isinstance(outcomes[2], BadRequest)
    assert outcomes[3] == [6]


async def test_a_failure_of_the_model_is_told_and_survived() -> None:
    calls = 0

    def breaks_once(numbers: Sequence[int]) -> list[int | HearthError]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError("weights are gone")
        return [1] * (len(numbers) if calls > 2 else 7)

    batcher: Batcher[int, int] = Batcher(breaks_once, max_size=4, max_wait_ms=0, max_waiting=4)
    with pytest.raises(ModelFailed, match="weights are gone"):
        await batcher.submit([1, 2])
    with pytest.raises(ModelFailed, match="7 of 2"):
        await batcher.submit([1, 2])
    assert await batcher.submit([1, 2]) == [1, 1]
    assert batcher.alive()
    await batcher.stop()


async def test_the_queue_is_bounded_and_takes_all_or_nothing(doubler: Doubler) -> None:
    small: Batcher[int, int] = Batcher(doubler, max_size=1, max_wait_ms=0, max_waiting=3)
    doubler.gate.clear()
    running = asyncio.create_task(small.submit([0]))
    await doubler.running()
    waiting = asyncio.create_task(small.submit([1, 2]))
    await asyncio.sleep(0)
    with pytest.raises(Throttled):
        await small.submit([3, 4])
    assert small.waiting == 2
    fits = asyncio.create_task(small.submit([5]))
    await asyncio.sleep(0)
    doubler.gate.set()
    assert list(await asyncio.gather(running, waiting, fits)) == [[0], [2, 4], [10]]
    assert doubler.batches == [[0], [1], [2], [5]]
    await small.stop()


async def test_who_leaves_is_not_computed(doubler: Doubler, batcher: Batcher[int, int]) -> None:
    doubler.gate.clear()
    first = asyncio.create_task(batcher.submit([0]))
    await doubler.running()
    leaving = asyncio.create_task(batcher.submit([1, 2]))
    staying = asyncio.create_task(batcher.submit([3]))
    await asyncio.sleep(0)
    leaving.cancel()
    first.cancel()  # while it runs: the batch's answer finds nobody
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert batcher.waiting == 1
    doubler.gate.set()
    assert await staying == [6]
    assert doubler.batches == [[0], [3]]


async def test_stop_finishes_what_runs_and_refuses_the_rest(
    doubler: Doubler, batcher: Batcher[int, int]
) -> None:
    doubler.gate.clear()
    running = asyncio.create_task(batcher.submit([1]))
    await doubler.running()
    waiting = asyncio.create_task(batcher.submit([2]))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    assert not batcher.alive()
    doubler.gate.set()
    await stopping
    assert await running == [2]
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await batcher.submit([3])
    await batcher.stop()


async def test_stop_wakes_an_idle_or_lingering_pump(doubler: Doubler) -> None:
    async with asyncio.timeout(30):
        idle: Batcher[int, int] = Batcher(doubler, max_size=9, max_wait_ms=3_600_000, max_waiting=9)
        await idle.submit([1, 2])
        lingering = asyncio.create_task(idle.submit([3]))
        await asyncio.sleep(0.01)
        await idle.stop()
        with pytest.raises(Unavailable):
            await lingering


@pytest.mark.parametrize(("size", "wait", "room"), [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
async def test_bounds_must_make_sense(size: int, wait: float, room: int, doubler: Doubler) -> None:
    with pytest.raises(ValueError, match="at least"):
        Batcher(doubler, max_size=size, max_wait_ms=wait, max_waiting=room)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.lists(st.integers(-3, 100), max_size=6), max_size=25),
    max_size=st.integers(1, 9),
    max_wait_ms=st.sampled_from([0.0, 1.0]),
)
def test_each_gets_its_own_answer(requests: list[list[int]], max_size: int, max_wait_ms: float) -> None:
    doubler = Doubler()

    async def ask() -> list[list[int] | BaseException]:
        batcher: Batcher[int, int] = Batcher(
            doubler, max_size=max_size, max_wait_ms=max_wait_ms, max_waiting=200
        )
        answers = await asyncio.gather(*map(batcher.submit, requests), return_exceptions=True)
        await batcher.stop()
        return answers

    for request, answer in zip(requests, asyncio.run(ask()), strict=True):
        if any(number < 0 for number in request):
            assert isinstance(answer, BadRequest)
        else:
            assert answer == [2 * number for number in request]
    assert all(1 <= len(batch) <= max_size for batch in doubler.batches)

"""Adaptive batching: what waits while the worker is busy becomes its next batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from server.errors import HearthError, ModelFailed, Throttled, Unavailable

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(slots=True)
class _Waiting(Generic[In, Out]):
    item: In
    answer: asyncio.Future[Out]
    since: float
    """`time.monotonic()` of its arrival."""


class Batcher(Generic[In, Out]):
    """Runs `run` on batches of what is waiting, in one worker thread, never on the event loop.

    `run` takes at most `max_size` items and answers one outcome for each, in their order; an outcome
    that is a HearthError is raised for that item alone. If `run` itself raises, every item of the
    batch gets that error (as ModelFailed when it is no HearthError).

    A batch that is not full lingers until its oldest item is `max_wait_ms` old, but only while batches
    hold more than one item: company is then likely, and a lone client never waits for nobody.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Sequence[Out | HearthError]],
        *,
        max_size: int,
        max_wait_ms: float,
        max_waiting: int,
        name: str = "batch",
    ) -> None:
        """Needs a running event loop; `max_waiting` bounds the items that wait, not those that run."""
        if max_size < 1 or max_waiting < 1 or max_wait_ms < 0:
            raise ValueError(f"{max_size=} and {max_waiting=} must be at least 1, {max_wait_ms=} at least 0")
        self._run = run
        self._max_size = max_size
        self._max_wait_s = max_wait_ms / 1000
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting[In, Out]] = deque()
        self._changed = asyncio.Event()
        self._stopped = False
        self._last_size = 1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._pump_task = asyncio.create_task(self._pump(), name=f"{name} pump")

    @property
    def waiting(self) -> int:
        """Items that wait for a batch."""
        return len(self._waiting)

    def alive(self) -> bool:
        return not self._stopped and not self._pump_task.done()

    async def submit(self, items: Sequence[In]) -> list[Out]:
        """One answer per item. All items are queued, or none.

        Raises Throttled when they do not fit in the queue, Unavailable when stopped, else the first
        error of any item; the others that have not run by then never do. Cancelling has that effect too.
        """
        if not self.alive():
            raise Unavailable("the replica is stopping")
        if len(self._waiting) + len(items) > self._max_waiting:
            raise Throttled(f"{len(self._waiting)} inputs are waiting and at most {self._max_waiting} may")
        loop, now = asyncio.get_running_loop(), time.monotonic()
        arrived: list[_Waiting[In, Out]] = [_Waiting(item, loop.create_future(), now) for item in items]
        self._waiting.extend(arrived)
        self._changed.set()
        try:
            return await asyncio.gather(*(each.answer for each in arrived))
        except BaseException:
            self._withdraw(arrived)
            raise

    async def stop(self) -> None:
        """Refuse what waits, let the running batch finish, end the thread. May be called twice."""
        self._stopped = True
        self._changed.set()
        await asyncio.wait([self._pump_task])
        self._fail_waiting(Unavailable("the replica is stopping"))
        self._thread.shutdown(wait=True)

    async def _pump(self) -> None:
        while True:
            await self._until(lambda: bool(self._waiting))
            if self._last_size > 1:
                await self._linger()
            if self._stopped:
                return
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_size))]
            self._last_size = len(batch)
            if batch:
                await self._answer(batch)

    async def _until(self, enough: Callable[[], bool]) -> None:
        while not self._stopped and not enough():
            self._changed.clear()
            await self._changed.wait()

    async def _linger(self) -> None:
        deadline = self._waiting[0].since + self._max_wait_s if self._waiting else 0.0
        remaining = deadline - time.monotonic()
        if remaining > 0:
            try:
                async with asyncio.timeout(remaining):
                    await self._until(lambda: len(self._waiting) >= self._max_size)
            except TimeoutError:
                return

    async def _answer(self, batch: list[_Waiting[In, Out]]) -> None:
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(self._thread, self._outcomes, [each.item for each in batch])
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.answer.done():
                continue
            if isinstance(outcome, HearthError):
                each.answer.set_exception(outcome)
            else:
                each.answer.set_result(outcome)

    def _outcomes(self, items: list[In]) -> Sequence[Out | HearthError]:
        """What `run` says, or its failure for every item; runs in the worker thread."""
        try:
            outcomes = self._run(items)
        except HearthError as error:
            return [error] * len(items)
        except Exception as error:
            failure = ModelFailed(f"the model failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return [failure] * len(items)
        if len(outcomes) != len(items):
            return [ModelFailed(f"the model answered {len(outcomes)} of {len(items)} inputs")] * len(items)
        return outcomes

    def _withdraw(self, arrived: list[_Waiting[In, Out]]) -> None:
        gone = {id(each) for each in arrived}
        self._waiting = deque(each for each in self._waiting if id(each) not in gone)
        for each in arrived:
            each.answer.cancel()

    def _fail_waiting(self, error: HearthError) -> None:
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(error)

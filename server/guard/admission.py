"""Who may go to the engine now: as many as it works on at once, the others wait for their turn.

An engine's own queue is first come, first served: a thousand requests of one principal would be ahead of the only one
of another. So what the engine cannot begin yet waits here, in the order of `FairQueue`. Waiting costs nobody any
throughput: whenever one ends, the next goes in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from server.errors import Throttled
from server.guard.fair import Entry, FairQueue


class Stage(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


_WAITING, _RUNNING, _OVER = Stage  # looked up once: an Enum's own lookup is slow beside what is done here


@dataclass(eq=False, slots=True)
class Turn:
    """One request's place. `slots`: how many of the engine's it takes."""

    principal: str
    slots: int
    stage: Stage
    admitted: asyncio.Future[None] | None = None
    entry: Entry[Turn] | None = None


class Admission:
    """Belongs to one event loop. `capacity`: slots of the engine; a request is let in while one of them is free, and
    may take more than are, so that a large one neither waits for ever nor leaves the engine idle."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.running = 0
        """Slots that are taken."""
        self._queue: FairQueue[Turn] = FairQueue()
        self._held: dict[str, int] = {}
        """Requests that run or wait, by principal."""

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def enter(self, principal: str, slots: int, cost: int) -> Turn:
        """The request's turn: it runs at once while there is room, else `wait` for it. Every turn ends in `leave`."""
        self._held[principal] = self._held.get(principal, 0) + 1
        if self.running < self.capacity and not self._queue:
            self.running += slots
            return Turn(principal, slots, _RUNNING)
        turn = Turn(principal, slots, _WAITING, asyncio.get_running_loop().create_future())
        turn.entry = self._queue.add(principal, cost, turn)
        return turn

    async def wait(self, turn: Turn) -> None:
        """Returns when the request may run. Raises Throttled when it had to make room for another principal's."""
        if turn.stage is _WAITING:
            assert turn.admitted is not None
            await turn.admitted

    def leave(self, turn: Turn) -> None:
        """The request is done, or its client does not wait any longer. May be called twice."""
        stage, turn.stage = turn.stage, _OVER
        if stage is _OVER:
            return
        left = self._held[turn.principal] - 1
        if left:
            self._held[turn.principal] = left
        else:
            del self._held[turn.principal]
        if stage is _RUNNING:
            self.running -= turn.slots
            self._admit()
        elif turn.entry is not None:
            self._queue.remove(turn.entry)

    def is_due_to(self, principal: str) -> bool:
        """Whether a place is due to `principal` though all are taken: another has more of them than it would."""
        return max(self._held.values(), default=0) > self._held.get(principal, 0) + 1

    def make_room(self, principal: str) -> bool:
        """Turns the newest request of whoever has most waiting away, where that is more than `principal` would."""
        longest = self._queue.longest()
        if longest is None or self._queue.waiting(longest) <= self._queue.waiting(principal) + 1:
            return False
        turn = self._queue.newest(longest).item
        self.leave(turn)
        if turn.admitted is not None and not turn.admitted.done():
            turn.admitted.set_exception(Throttled("Every place is taken, and others wait with fewer requests."))
        return True

    def _admit(self) -> None:
        while self.running < self.capacity and (entry := self._queue.pop()) is not None:
            turn = entry.item
            turn.stage = _RUNNING
            self.running += turn.slots
            assert turn.admitted is not None
            if not turn.admitted.done():
                turn.admitted.set_result(None)

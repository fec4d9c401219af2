"""Whose request is next: deficit round robin over the principals that wait (Shreedhar and Varghese, 1995).

Principals have turns, one after another. A turn is worth `QUANTUM`; what is not spent of it is kept for the next one
while the principal waits, so that a request of any cost comes to its turn. Whoever comes anew is behind one turn of
each of the others, however much they have waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

QUANTUM = 1

Item = TypeVar("Item")


@dataclass(eq=False, slots=True)
class Entry(Generic[Item]):
    principal: str
    cost: int
    item: Item


@dataclass(slots=True)
class _Flow(Generic[Item]):
    """What one principal has waiting, oldest first."""

    waiting: OrderedDict[int, Entry[Item]] = field(default_factory=OrderedDict)
    deficit: int = 0
    in_turn: bool = False

    @property
    def head(self) -> Entry[Item]:
        return next(iter(self.waiting.values()))

    def missing(self) -> int:
        """Turns until it can pay for its first entry; 0: it can."""
        return max(0, -(-(self.head.cost - self.deficit) // QUANTUM))


class FairQueue(Generic[Item]):
    """Entries of several principals. Each principal's own come in their order."""

    def __init__(self) -> None:
        self._flows: OrderedDict[str, _Flow[Item]] = OrderedDict()
        """By principal; the first has its turn."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def waiting(self, principal: str) -> int:
        flow = self._flows.get(principal)
        return 0 if flow is None else len(flow.waiting)

    def add(self, principal: str, cost: int, item: Item) -> Entry[Item]:
        """`cost` is at least 1."""
        entry = Entry(principal, cost, item)
        flow = self._flows.get(principal)
        if flow is None:
            flow = self._flows[principal] = _Flow()
        flow.waiting[id(entry)] = entry
        self._size += 1
        return entry

    def pop(self) -> Entry[Item] | None:
        """The next one, taken out; None when nothing waits."""
        if not self._flows:
            return None
        self._skip_idle_rounds()
        while True:
            flow = next(iter(self._flows.values()))
            if not flow.in_turn:
                flow.in_turn = True
                flow.deficit += QUANTUM
            if not flow.missing():
                break
            self._end_turn(flow)
        entry = flow.head
        flow.deficit -= entry.cost
        self.remove(entry)
        if flow.waiting and flow.missing():
            self._end_turn(flow)
        return entry

    def remove(self, entry: Entry[Item]) -> bool:
        """Takes an entry out, wherever it stands; False when it is out already."""
        flow = self._flows.get(entry.principal)
        if flow is None or flow.waiting.pop(id(entry), None) is None:
            return False
        self._size -= 1
        if not flow.waiting:
            del self._flows[entry.principal]
        return True

    def longest(self) -> str | None:
        """The principal that has most waiting."""
        return max(self._flows, key=self.waiting, default=None)

    def newest(self, principal: str) -> Entry[Item]:
        """The last that came of a principal that waits."""
        return next(reversed(self._flows[principal].waiting.values()))

    def _end_turn(self, flow: _Flow[Item]) -> None:
        flow.in_turn = False
        self._flows.move_to_end(next(iter(self._flows)))

    def _skip_idle_rounds(self) -> None:
        """Gives at once what rounds would give in which nobody could pay for anything."""
        first = next(iter(self._flows.values()))
        if first.missing() <= (0 if first.in_turn else 1):
            return
        idle = min(flow.missing() for flow in self._flows.values()) - 1
        if idle > 0:
            for flow in self._flows.values():
                flow.deficit += idle * QUANTUM

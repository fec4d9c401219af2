"""Stop strings in a text that arrives in pieces: an Aho-Corasick automaton (Aho and Corasick, CACM 18(6), 1975).

The stop that ends first wins; of several that end at the same place, the one that starts first (the longest);
of equal ones, the first in the list. The text ends before it. What a piece shows is never taken back, and only
what may still turn out to be the start of such a stop is held back: at the first character that rules it out,
it is shown.

Units are characters of `str` or bytes of `bytes`, exact code points without normalisation. A tokenizer whose
tokens may end inside a character is served by stops in UTF-8 and pieces of bytes: UTF-8 is self-synchronising,
so a stop is found where the text has it and nowhere else. The bytes shown by one call may end inside a character.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import AnyStr, Generic, NamedTuple


class Shown(NamedTuple, Generic[AnyStr]):
    """What one piece brought."""

    text: AnyStr
    """May be shown now."""
    stop: AnyStr | None
    """The stop that ended the text, if it has ended."""


class StopStrings(Generic[AnyStr]):
    """The automaton of some stops; immutable, shared by any number of streams.

    Built in time linear in the stops' total length. A stop inside which another one ends can never be the first
    to end, so it is left out: its beginnings need not be held back.

    Raises ValueError for no stop at all and for an empty one.
    """

    def __init__(self, stops: Sequence[AnyStr]) -> None:
        if not stops or not all(stops):
            raise ValueError("there must be a stop, and each must have at least one character")
        self.stops: tuple[AnyStr, ...] = tuple(stops)
        self._build(range(len(stops)))
        live = [index for index, stop in enumerate(stops) if not self._ended_inside(stop)]
        if len(live) < len(stops):
            self._build(live)

    def _build(self, indices: Iterable[int]) -> None:
        self.edges: list[dict[str | int, int]] = [{}]
        """Per node: unit to child. Node 0 is the root; a node stands for a prefix of stops."""
        self.depth: list[int] = [0]
        self.stop: list[int] = [-1]
        """Per node: a stop whose prefix it is."""
        self.ending: list[int] = [-1]
        """Per node: the stop that ends there, the longest if several do, or -1."""
        for index in indices:
            self._insert(index)
        self._link()

    def _insert(self, index: int) -> None:
        node = 0
        for unit in self.stops[index]:
            child = self.edges[node].get(unit, -1)
            if child < 0:
                child = len(self.edges)
                self.edges[node][unit] = child
                self.edges.append({})
                self.depth.append(self.depth[node] + 1)
                self.stop.append(index)
                self.ending.append(-1)
            node = child
        if self.ending[node] < 0:
            self.ending[node] = index

    def _link(self) -> None:
        """`failure`: per node, the node of its longest proper suffix that is a prefix of some stop."""
        self.failure = [0] * len(self.edges)
        waiting = deque(self.edges[0].values())
        while waiting:
            node = waiting.popleft()
            if self.ending[node] < 0:
                self.ending[node] = self.ending[self.failure[node]]
            for unit, child in self.edges[node].items():
                self.failure[child] = self.next(self.failure[node], unit)
                waiting.append(child)

    def next(self, node: int, unit: str | int) -> int:
        """The node of the longest suffix of (`node`'s prefix, `unit`) that is a prefix of some stop."""
        while (child := self.edges[node].get(unit, -1)) < 0:
            if node == 0:
                return 0
            node = self.failure[node]
        return child

    def _ended_inside(self, stop: AnyStr) -> bool:
        node = 0
        for unit in stop[:-1]:
            node = self.edges[node][unit]
            if self.ending[node] >= 0:
                return True
        return False

    def held(self, node: int) -> AnyStr:
        """The text that `node` stands for."""
        return self.stops[self.stop[node]][: self.depth[node]] if node else self.stops[0][:0]

    def stream(self) -> StopStream[AnyStr]:
        return StopStream(self)


class StopStream(Generic[AnyStr]):
    """One text in progress. All its state is a node: the text held back is that node's prefix."""

    __slots__ = ("_automaton", "_node", "stop")

    def __init__(self, automaton: StopStrings[AnyStr]) -> None:
        self._automaton: StopStrings[AnyStr] = automaton
        self._node = 0
        self.stop: AnyStr | None = None
        """The stop that ended the text; from then on every piece is dropped."""

    def feed(self, piece: AnyStr) -> Shown[AnyStr]:
        """The next piece of the text, of any length; takes time linear in it, however many stops there are."""
        if self.stop is not None:
            return Shown(piece[:0], self.stop)
        automaton, node = self._automaton, self._node
        ending, step = automaton.ending, automaton.next
        for count, unit in enumerate(piece, start=1):
            node = step(node, unit)
            if ending[node] >= 0:
                self.stop = automaton.stops[ending[node]]
                return Shown(self._until(piece, count - len(self.stop)), self.stop)
        text = self._until(piece, len(piece) - automaton.depth[node])
        self._node = node
        return Shown(text, None)

    def flush(self) -> AnyStr:
        """What was held back, when the text has ended without a stop."""
        text = self._automaton.held(self._node)
        self._node = 0
        return text if self.stop is None else text[:0]

    def _until(self, piece: AnyStr, end: int) -> AnyStr:
        """What was held back before `piece` and of `piece` itself, up to `end`, counted from `piece`'s start."""
        if end >= 0:
            return self._automaton.held(self._node) + piece[:end]
        return self._automaton.held(self._node)[:end]

"""Which worlds are possible after what a user has seen.

A call whose answer was lost may have happened, may not have, and may still happen later: an attempt that is under way
in the door does not know that its client has gone. So each possibility is a world and the attempts still to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.crash.rules import Refused, apply
from benchmarks.crash.world import EMPTY, World, advanced, agrees


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """One call of a client; two equal ones are still two."""

    operation: str
    """In snake case, as boto3 has it."""
    request: Mapping[str, Any]

    @property
    def reads(self) -> bool:
        return self.operation.startswith(("describe", "list"))

    def __str__(self) -> str:
        return f"{self.operation}({', '.join(f'{name}={value!r}' for name, value in self.request.items())})"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer that a client got in the end. `refusal` holds the code and message of a 400."""

    body: Mapping[str, Any]
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Possibility:
    """A world, and how many lost attempts of which calls may still be carried out in it."""

    world: World = EMPTY
    pending: frozenset[tuple[Call, int]] = frozenset()


class Violation(Exception):
    """What was seen is impossible after what was acknowledged."""


class Legal:
    """The possibilities, narrowed by each answer and widened by each lost one."""

    def __init__(self) -> None:
        self.possible: frozenset[Possibility] = frozenset((Possibility(),))

    def answered(self, call: Call, reply: Reply, lost: int = 0) -> None:
        """`reply` came after `lost` attempts without one. Raises Violation."""
        matching = {
            Possibility(world, each.pending)
            for each in _reachable(self._with_lost(call, lost))
            for world in _outcome(each.world, call, reply)
        }
        if not matching:
            raise Violation(f"{call} gave {_shown(reply)}; {self._expected(call)}")
        self.possible = frozenset(matching)

    def unanswered(self, call: Call, lost: int) -> None:
        """No attempt was answered."""
        self.possible = frozenset(_reachable(self._with_lost(call, lost)))

    def nothing_is_under_way(self) -> None:
        """Whatever was lost has happened by now, or never will."""
        self.possible = frozenset(Possibility(each.world) for each in _reachable(self.possible))

    @property
    def world(self) -> World:
        """One of the possible worlds, the same one each time."""
        return min((each.world for each in self.possible), key=lambda world: sorted(map(repr, world)))

    def _with_lost(self, call: Call, lost: int) -> Iterable[Possibility]:
        if call.reads or not lost:
            return self.possible
        return (Possibility(each.world, each.pending | {(call, lost)}) for each in self.possible)

    def _expected(self, call: Call) -> str:
        told = {_predicted(each.world, call) for each in _reachable(self.possible)}
        return "possible: " + " or ".join(sorted(told))


def _reachable(start: Iterable[Possibility]) -> set[Possibility]:
    """All that may have become of `start` by what the controller does and what lost attempts do."""
    found: set[Possibility] = set()
    left = list(start)
    while left:
        each = left.pop()
        if each not in found:
            found.add(each)
            left += (Possibility(world, each.pending) for world in advanced(each.world))
            left += _carried_out(each)
    return found


def _carried_out(possibility: Possibility) -> Iterator[Possibility]:
    for call, times in possibility.pending:
        rest = possibility.pending - {(call, times)} | ({(call, times - 1)} if times > 1 else set())
        try:
            world, _ = apply(possibility.world, call.operation, call.request)
        except Refused:
            world = possibility.world
        yield Possibility(world, rest)


def _outcome(world: World, call: Call, reply: Reply) -> Iterator[World]:
    """The world after `call`, where it would have been answered so."""
    try:
        after, answer = apply(world, call.operation, call.request)
    except Refused:
        if reply.refusal is not None:
            yield world
        return
    if reply.refusal is None and agrees(answer, reply.body):
        yield after


def _predicted(world: World, call: Call) -> str:
    try:
        return str(apply(world, call.operation, call.request)[1])
    except Refused as refused:
        return f"a refusal ({refused})"


def _shown(reply: Reply) -> str:
    body = {name: value for name, value in reply.body.items() if name != "ResponseMetadata"}
    return f"a refusal ({reply.refusal})" if reply.refusal is not None else str(body)

"""Rounds of users that call Hearth at once while its parts are killed; after each, everything must be as asked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice

from benchmarks.crash import checks
from benchmarks.crash.faults import HELD_S, USERS, Done, Faults
from benchmarks.crash.legal import Violation
from benchmarks.crash.sequence import Sequence
from benchmarks.crash.site import Site
from benchmarks.crash.user import Counts, User


@dataclass(slots=True)
class Outcome:
    """Of all rounds. `heal_s`: the longest time from the last kill to everything being as asked."""

    sequences: int = 0
    counts: Counts = field(default_factory=Counts)
    done: Done = field(default_factory=Done)
    violations: list[str] = field(default_factory=list)
    heal_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done. `serving`: how many of a round's users have endpoints with replicas."""

    sequences: int
    seed: int
    width: int = 6
    serving: int = 3
    faults: int = 3
    """In each sequence."""
    seconds: tuple[float, ...] = HELD_S
    """For how long the store is held or the door stopped, one of them each time."""


def run(
    site: Site, plan: Plan, say: Callable[[str], None], faults: Faults | None = None,
    meanwhile: AbstractContextManager[object] | None = None,
) -> Outcome:  # fmt: skip
    """All rounds. What is found wrong is in the outcome's `violations`. `faults`: to know of them while they happen;
    `meanwhile` is entered while users call, and left before what came of it is looked at."""
    outcome = Outcome()
    faults = Faults(site, plan.seconds) if faults is None else faults
    deck = _dealt(sorted(faults.all), plan.seed)
    outcome.done = faults.done
    for first in range(0, plan.sequences, plan.width):
        numbers = range(first, min(first + plan.width, plan.sequences))
        users = [User(site.url, outcome.counts) for _ in numbers]
        sequences = [
            Sequence(f"{USERS}{plan.seed}-{number}", plan.seed, user, serves=number - first < plan.serving)
            for number, user in zip(numbers, users, strict=True)
        ]
        kinds = {one.name: list(islice(deck, plan.faults)) for one in sequences}
        _round(sequences, faults, kinds, outcome, nullcontext() if meanwhile is None else meanwhile)
        for user in users:
            user.close()
        outcome.sequences += len(sequences)
        say(f"{outcome.sequences} sequences, {outcome.done.kills.total()} faults, {len(outcome.violations)} violations")
    outcome.violations += [f"{name} was not back in time" for name in outcome.done.late]
    return outcome


def _dealt(kinds: list[str], seed: int) -> Iterator[str]:
    """Each kind once, in any order, before one comes again."""
    chance = random.Random(seed)
    while True:
        yield from chance.sample(kinds, len(kinds))


def _round(
    sequences: list[Sequence], faults: Faults, kinds: Mapping[str, list[str]], outcome: Outcome,
    meanwhile: AbstractContextManager[object],
) -> None:  # fmt: skip
    site = faults.site
    with ThreadPoolExecutor(len(sequences)) as pool:

        def each(work: Callable[[Sequence], None], among: Iterable[Sequence]) -> list[Sequence]:
            """Those for which `work` found nothing wrong."""
            return [one for one, found in _tried(pool, work, among) if not _noted(found, outcome)]

        with meanwhile:
            sound = each(lambda one: one.run(faults, kinds[one.name]), sequences)
        faults.fence()
        began = time.monotonic()
        for one in sound:
            one.user.legal.nothing_is_under_way()
        sound = each(checks.answers, sound)
        sound = each(lambda one: checks.invocations(site.url, one), sound)
        _noted(_caught(lambda: checks.machinery(site, sound)), outcome)
        outcome.heal_s = max(outcome.heal_s, time.monotonic() - began)
        sound = each(checks.remove, sound)
        _noted(_caught(lambda: checks.machinery(site, sound)), outcome)


def _tried(
    pool: ThreadPoolExecutor, work: Callable[[Sequence], None], among: Iterable[Sequence]
) -> Iterator[tuple[Sequence, Violation | None]]:
    among = list(among)
    return zip(among, pool.map(lambda one: _caught(lambda: work(one)), among), strict=True)


def _caught(work: Callable[[], None]) -> Violation | None:
    try:
        work()
    except Violation as violation:
        return violation
    return None


def _noted(found: Violation | None, outcome: Outcome) -> bool:
    if found is not None:
        outcome.violations.append(str(found))
    return found is not None

"""Which replicas there are, as they say themselves. Soft state: a restarted controller hears it anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from server.beat import LEASE_S, Beat


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest beats of one account's replicas."""

    beats: tuple[Beat, ...]

    def of(self, endpoint: str, variant: str | None = None, revision: str | None = None) -> list[Beat]:
        """Beats of one endpoint, variant or revision, oldest replica first."""
        found = [
            beat
            for beat in self.beats
            if beat.endpoint == endpoint and variant in (None, beat.variant) and revision in (None, beat.revision)
        ]
        return sorted(found, key=lambda beat: (beat.started_at, beat.replica_id))

    def on(self, component: str) -> Heard:
        """As if there were no replicas but those of one inference component; empty: but those of none."""
        return Heard(tuple(beat for beat in self.beats if beat.component == component))


class Registry:
    """The newest beat of every living replica.

    `changed` is set when a replica came, went, or changed its phase, address or adapters.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[str, tuple[Beat, float]] = {}
        self._born = clock()
        self.changed = asyncio.Event()

    @property
    def settled(self) -> bool:
        """False for one lease after start: a replica not heard from yet may still be there."""
        return self._clock() - self._born > LEASE_S

    def hear(self, beat: Beat) -> None:
        before = self._beats.get(beat.replica_id)
        self._beats[beat.replica_id] = (beat, self._clock())
        if before is None or _address(before[0]) != _address(beat):
            self.changed.set()

    def drop_silent(self) -> list[Beat]:
        """Forgets replicas whose lease ran out and gives their last beats."""
        oldest = self._clock() - LEASE_S
        silent = [beat for beat, heard in self._beats.values() if heard < oldest]
        for beat in silent:
            del self._beats[beat.replica_id]
        if silent:
            self.changed.set()
        return silent

    def beats(self) -> list[Beat]:
        return [beat for beat, _ in self._beats.values()]

    def within(self, account: str) -> Heard:
        """As if there were no other account; empty: this Hearth's own."""
        return Heard(tuple(beat for beat in self.beats() if beat.account == account))


def ready(beats: Iterable[Beat]) -> list[Beat]:
    return [beat for beat in beats if beat.phase == "ready"]


def _address(beat: Beat) -> tuple[object, ...]:
    return (beat.phase, beat.host, beat.port, beat.adapters)

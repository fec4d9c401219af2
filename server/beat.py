"""The message by which a replica says that it is there: posted to the controller once a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal["starting", "loading", "ready", "draining", "failed"]

INTERVAL_S = 1.0
LEASE_S = 5.0
"""A replica that has not been heard from for this long is taken off the routes."""


@dataclass(frozen=True, slots=True)
class Beat:
    """State of one replica at one moment.

    `port` is 0 until it listens. Counters are totals since the replica started; `in_flight` counts
    requests admitted and not yet finished. `detail` says in words what a `loading` replica is doing,
    or why a `failed` one failed.
    """

    replica_id: str
    endpoint: str
    variant: str
    revision: str
    host: str
    port: int
    pid: int
    phase: Phase
    detail: str = ""
    in_flight: int = 0
    requests_total: int = 0
    tokens_total: int = 0
    started_at: float = 0.0
    account: str = ""
    """Whose endpoint it is; empty: this Hearth's own."""
    component: str = ""
    """The inference component that it is of, if it is of one."""
    adapters: Mapping[str, Any] = field(default_factory=dict)
    """What became of each adapter that it should hold (`Held`, as it travels), by its name."""

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, message: dict[str, Any]) -> Beat:
        """Raises TypeError when a field is missing or unknown."""
        return cls(**message)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a replica says of one of its account's rates: the share it goes by (None: no limit), and how much a second
    it was asked for."""

    held: float | None
    wanted: float

    @classmethod
    def from_wire(cls, message: dict[str, Any]) -> Usage:
        """Raises TypeError."""
        return cls(**message)


@dataclass(frozen=True, slots=True)
class Report:
    """What goes with a beat about rates, by name. `number` rises with each: an old one that is late says nothing."""

    account: str
    number: int
    usages: Mapping[str, Usage]

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Report:
        """Raises TypeError or KeyError."""
        usages = {name: Usage.from_wire(usage) for name, usage in message["usages"].items()}
        return cls(message["account"], message["number"], usages)


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer: the account's limit in its own unit, and the replica's share in a second."""

    limit: float
    share: float

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, message: dict[str, Any]) -> Grant:
        """Raises TypeError."""
        return cls(**message)

"""How an account's rates are divided among its replicas, so that all of them together never go by more than its quota.

Each replica says with its beat which share it goes by and what it was asked for; the answer is its new share. Shares
follow the demand (max-min fair), but for a part that is divided evenly, so that a replica that was idle can begin. What
another replica goes by, or may go by as an answer to it could be on its way or lost, is not given away until its own
next beat shows that it has let go of it. So the sum of all shares is never above the quota, whatever is lost or late;
a share that moves from one replica to another takes two beats.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.beat import INTERVAL_S, LEASE_S, Grant, Report, Usage
from server.errors import Unavailable
from server.store import quotas
from server.store.quotas import REQUESTS, TOKENS, Defaults, Quota
from server.store.store import Store

log = structlog.get_logger(__name__)

Limits = dict[str, float | None]
"""By rate, each in its own unit; None: no limit."""

EVEN = 0.1
"""The part of a quota that all replicas have in even shares, whatever they are asked for."""
RATES: Mapping[str, tuple[Quota, float]] = {"requests": (REQUESTS, 1.0), "tokens": (TOKENS, 60.0)}
"""The quota of each rate, and the seconds of its unit."""


@dataclass(slots=True)
class _Replica:
    bound: float
    """The most that it goes by, as far as is known."""
    wanted: float
    heard: float


class Division:
    """One rate of one account. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._replicas: dict[str, _Replica] = {}

    def share(self, replica: str, usage: Usage, rate: float) -> float:
        """What `replica` may go by from now on, of `rate` in all."""
        now = self._clock()
        self._replicas = {id: each for id, each in self._replicas.items() if now - each.heard <= LEASE_S}
        held = usage.held or 0.0
        self._replicas[replica] = _Replica(held, max(0.0, usage.wanted), now)
        others = sum(each.bound for id, each in self._replicas.items() if id != replica)
        given = max(0.0, min(self._due(replica, rate), rate - others))
        self._replicas[replica].bound = max(held, given)
        return given

    def _due(self, replica: str, rate: float) -> float:
        """The replica's part were everything free."""
        even = EVEN * rate / len(self._replicas)
        wanted = {id: max(0.0, each.wanted - even) for id, each in self._replicas.items()}
        filled = filling(wanted, (1 - EVEN) * rate)
        spare = (1 - EVEN) * rate - sum(filled.values())
        return even + filled[replica] + max(0.0, spare) / len(self._replicas)


def filling(wanted: Mapping[str, float], amount: float) -> dict[str, float]:
    """`amount` divided max-min fairly: nobody has more than it wants, and what it leaves is the others'."""
    found, left = {}, amount
    rising = sorted(wanted.items(), key=lambda item: item[1])
    for index, (id, want) in enumerate(rising):
        found[id] = min(want, left / (len(rising) - index))
        left -= found[id]
    return found


class Rates:
    """Of all accounts."""

    def __init__(self, store: Store, defaults: Defaults, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._defaults = defaults
        self._clock = clock
        self._born = clock()
        self._divisions: dict[tuple[str, str], Division] = {}
        self._limits: dict[str, tuple[float, Limits]] = {}
        self._numbers: dict[str, tuple[int, float]] = {}
        """Of each replica's last report, and when that came."""

    async def answer(self, replica: str, report: Report) -> dict[str, Any] | None:
        """What goes back to a replica. None: nothing may be given yet, as replicas that were there before this
        controller may go by shares that it has not heard of, or as nobody knows the quotas. Raises KeyError."""
        account, limits = report.account, await self._of(report.account)
        if limits is None or not self._is_news(replica, report.number):
            return None
        settled = self._clock() - self._born > LEASE_S
        answer: dict[str, Any] = {}
        for rate, (_, unit_s) in RATES.items():
            limit, usage = limits[rate], report.usages[rate]
            if limit is None:
                self._divisions.pop((account, rate), None)
                answer[rate] = None
            else:
                total = limit / unit_s if settled else 0.0
                share = self._divisions.setdefault((account, rate), Division(self._clock)).share(replica, usage, total)
                answer[rate] = Grant(limit, share).to_wire()
        return answer if settled or not any(answer.values()) else None

    def _is_news(self, replica: str, number: int) -> bool:
        now = self._clock()
        self._numbers = {id: each for id, each in self._numbers.items() if now - each[1] <= LEASE_S}
        if number <= self._numbers.get(replica, (0, 0.0))[0]:
            return False
        self._numbers[replica] = (number, now)
        return True

    async def _of(self, account: str) -> Limits | None:
        """The account's limits by rate, not older than a beat while the store answers; None: it never has."""
        now = self._clock()
        looked_at, found = self._limits.get(account, (-math.inf, None))
        if now - looked_at >= INTERVAL_S:
            try:
                found = await asyncio.to_thread(self._read, account)
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("quotas not read", account=account, error=type(error).__name__)
                return found
            self._limits[account] = (now, found)
        return found

    def _read(self, account: str) -> Limits:
        return {rate: quotas.limit(self._store, self._defaults, quota, account) for rate, (quota, _) in RATES.items()}

"""How a rollout goes on: from one state and what is seen to the next state. Pure.

A rollout takes an endpoint's traffic from *blue*, the replicas that serve it, to *green*, those that replace
them, by the shares of its `Strategy`. The state says how much of the traffic green has and how large both
fleets must be; making that true and seeing whether it is are the caller's (`server.controller.updating`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from server.spec import Rollout, Strategy

Stage = Literal["creating", "baking", "terminating", "reverting", "stuck", "finished", "reverted"]
"""creating: green's replicas for the next share start; baking: alarms are watched; terminating: blue is kept a
while; reverting: blue's replicas for the share that goes back start; stuck: they do not, and are waited for."""

FORWARD = ("creating", "baking", "terminating")
ENDED = ("finished", "reverted")
TOLERANCE = 1e-9
"""Of shares, which are sums of fractions."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout is. `share` of the traffic is green's: `low` or `high`, the ends of the present step."""

    stage: Stage
    since: float
    """When the stage began, in seconds since 1970."""
    low: float = 0.0
    high: float = 1.0
    share: float = 0.0
    reason: str | None = None
    """Why it goes back."""

    def blue(self, strategy: Strategy) -> float:
        """The part of blue's replicas that must be there."""
        return 1.0 - self.low if strategy.rolling else 1.0

    def green(self, strategy: Strategy) -> float:
        return self.high if strategy.rolling else 1.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas of one variant on one side: how many all of it is, and how many are ready."""

    size: int
    ready: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen at one moment. Variants that both sides run in the same replicas are in neither list."""

    now: float
    blue: tuple[Fleet, ...]
    green: tuple[Fleet, ...]
    alarms: frozenset[str] = frozenset()
    """Names of alarms in ALARM."""
    failure: str | None = None
    """Why green's replicas cannot start, once that is known."""
    start_timeout_s: float = 600.0


def begin(strategy: Strategy, now: float) -> Progress:
    return Progress("creating", now, high=strategy.shares[0])


NOTED = "rollout"
"""Where an endpoint's observation keeps the progress of its rollout."""


def noted(rollout: Rollout, progress: Progress) -> dict[str, Any]:
    """`progress` as the observation keeps it."""
    return {**asdict(progress), "asked_at": rollout.asked_at}


def recall(rollout: Rollout, observation: Mapping[str, Any] | None) -> Progress:
    """How far `rollout` was when it was noted last; at its beginning, if what is noted is of another one."""
    found = dict((observation or {}).get(NOTED, {}))
    if found.pop("asked_at", None) != rollout.asked_at:
        return begin(rollout.strategy, rollout.asked_at)
    return Progress(**found)


def replicas(size: int, part: float) -> int:
    """How many replicas `part` of a fleet is: whole ones, and one at least where there is any part."""
    return max(1, math.ceil(size * part - TOLERANCE)) if part > TOLERANCE else 0


def step(progress: Progress, strategy: Strategy, asked_at: float, sight: Sight) -> Progress:
    """The next state; `progress` itself when it is to be waited. Alarms come before everything else."""
    if progress.stage in ENDED:
        return progress
    if progress.stage in ("reverting", "stuck"):
        return _back(progress, strategy, sight)
    why = _trouble(progress, strategy, asked_at, sight)
    if why is not None:
        return turned(progress, strategy, why, sight.now)
    return _forth(progress, strategy, sight)


def _trouble(progress: Progress, strategy: Strategy, asked_at: float, sight: Sight) -> str | None:
    tripped = [name for name in strategy.alarms if name in sight.alarms]
    if tripped:
        words = f"alarm {tripped[0]} is" if len(tripped) == 1 else f"alarms {', '.join(tripped)} are"
        return f"{words} in ALARM"
    if sight.failure is not None:
        return sight.failure
    if strategy.timeout_s is not None and sight.now - asked_at >= strategy.timeout_s:
        return f"the deployment took longer than MaximumExecutionTimeoutInSeconds ({strategy.timeout_s:.0f})"
    if progress.stage == "creating" and sight.now - progress.since >= sight.start_timeout_s:
        return f"new replicas were not ready within {sight.start_timeout_s:.0f} s"
    return None


def _forth(progress: Progress, strategy: Strategy, sight: Sight) -> Progress:
    waited = sight.now - progress.since
    if progress.stage == "creating":
        if not _ready(sight.green, progress.green(strategy)):
            return progress
        return replace(progress, stage="baking", since=sight.now, share=progress.high)
    if progress.stage == "terminating":
        over = waited >= strategy.termination_wait_s
        return replace(progress, stage="finished", since=sight.now) if over else progress
    if waited < strategy.bake_s:
        return progress
    if progress.share >= 1:
        return replace(progress, stage="terminating", since=sight.now)
    following = next(share for share in strategy.shares if share > progress.share + TOLERANCE)
    return replace(progress, stage="creating", since=sight.now, low=progress.share, high=following)


def turned(progress: Progress, strategy: Strategy, why: str, now: float) -> Progress:
    """On the way back. Blue keeps at least the replicas that it still has, green those that it needs."""
    low = min(progress.low, _lower(progress.share, strategy))
    return Progress("reverting", now, low, max(progress.share, low), progress.share, why)


def _back(progress: Progress, strategy: Strategy, sight: Sight) -> Progress:
    if progress.share <= 0:
        return replace(progress, stage="reverted", since=sight.now)
    if not _takes_back(progress, strategy, sight):
        late = progress.stage == "reverting" and sight.now - progress.since >= sight.start_timeout_s
        return replace(progress, stage="stuck", since=sight.now) if late else progress
    back = progress.low
    return Progress("reverting", sight.now, _lower(back, strategy), back, back, progress.reason)


def _lower(share: float, strategy: Strategy) -> float:
    """What of `share` is left after a step back: nothing, unless a rolling update has a step of its own."""
    left = share - strategy.rollback_step if strategy.rolling else 0.0
    return left if left > TOLERANCE else 0.0


def _takes_back(progress: Progress, strategy: Strategy, sight: Sight) -> bool:
    """Blue/green kept all of blue: one that lost a replica is still better than a green that must go."""
    if strategy.rolling:
        return _ready(sight.blue, progress.blue(strategy))
    return all(fleet.ready >= 1 for fleet in sight.blue)


def _ready(fleets: Sequence[Fleet], part: float) -> bool:
    return all(fleet.ready >= replicas(fleet.size, part) for fleet in fleets)

"""How much capacity a variant should have: policies, what their metrics say, bounds, cooldowns. Pure.

https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

IN_SHARE = 0.9
"""A target is missed from below when its metric is under this part of it."""
MOST = 1_000_000
"""Bound on what a policy may ask for, whatever its metric says."""

Adjustment = Literal["ChangeInCapacity", "PercentChangeInCapacity", "ExactCapacity"]
NotScaled = Literal["AlreadyAtMaxCapacity", "AlreadyAtMinCapacity", "AlreadyAtDesiredCapacity"]


@dataclass(frozen=True, slots=True)
class Bounds:
    minimum: int
    maximum: int

    def clamp(self, capacity: int) -> int:
        return min(max(capacity, self.minimum), self.maximum)


@dataclass(frozen=True, slots=True)
class Past:
    """The last changes of a capacity, in seconds since 1970; None: there was none."""

    scaled_out: float | None = None
    scaled_in: float | None = None
    before_out: int | None = None
    """The capacity that the last scale-out began with."""

    @property
    def changed(self) -> float:
        return max(self.scaled_out or 0.0, self.scaled_in or 0.0)


@dataclass(frozen=True, slots=True)
class Suspended:
    scale_in: bool = False
    scale_out: bool = False


@dataclass(frozen=True, slots=True)
class Tracking:
    """A target tracking policy and its metric's newest points, oldest first; None: the period has none.

    `high` are those whose every one must be above the target for a scale-out, `low` those whose every one must
    be under 90 % of it for a scale-in, both counted from the newest point that is known.
    """

    name: str
    target: float
    out_cooldown_s: float
    in_cooldown_s: float
    disable_scale_in: bool
    high: Sequence[float | None]
    high_count: int
    low: Sequence[float | None]
    low_count: int
    serving: int
    """How much capacity the metric was measured on; it may lag behind what was asked for."""


@dataclass(frozen=True, slots=True)
class Step:
    """From `lower` to `upper` beyond the alarm's threshold; None: without end."""

    lower: float | None
    upper: float | None
    adjustment: int


@dataclass(frozen=True, slots=True)
class Stepping:
    """A step scaling policy whose alarm is on, and how far its metric is `beyond` the alarm's threshold."""

    name: str
    kind: Adjustment
    steps: Sequence[Step]
    least_change: int
    cooldown_s: float
    beyond: float
    rising: bool
    """Whether the alarm is on above its threshold: which end of a step belongs to it."""


Policy = Tracking | Stepping


@dataclass(frozen=True, slots=True)
class Decision:
    """The capacity to go to, the policy that says so, and why it is not what the policy asks for."""

    desired: int
    policy: str | None = None
    why: str = ""
    not_scaled: NotScaled | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What one policy asks for. A policy that tracks its target and is content wishes for what is there."""

    desired: int
    policy: str
    why: str
    cooling: bool = False
    """It would be another capacity, were it not for a cooldown."""


def decide(
    current: int, policies: Sequence[Policy], past: Past, bounds: Bounds, suspended: Suspended, now: float
) -> Decision:
    """The largest capacity that a policy scales out to; else the largest that all tracking policies, and those
    that step, scale in to. Never outside `bounds`."""
    wishes = [wish for policy in policies if (wish := _wish(current, policy, past, now)) is not None]
    out = max((w for w in wishes if w.desired > current), key=lambda w: w.desired, default=None)
    if out is not None:
        return _bounded(current, out, bounds, suspended.scale_out)
    tracking = {policy.name for policy in policies if isinstance(policy, Tracking) and not policy.disable_scale_in}
    content = any(w.policy in tracking and w.desired >= current for w in wishes)
    silent = tracking - {w.policy for w in wishes}
    inward = [w for w in wishes if w.desired < current and not (w.policy in tracking and (content or silent))]
    if inward:
        return _bounded(current, max(inward, key=lambda w: w.desired), bounds, suspended.scale_in)
    asked = next((w for w in wishes if w.why and not w.cooling), None)
    if asked is not None:
        return Decision(bounds.clamp(current), asked.policy, asked.why, _reason(current, bounds))
    return Decision(bounds.clamp(current))


def _bounded(current: int, wish: Wish, bounds: Bounds, suspended: bool) -> Decision:
    if suspended:
        return Decision(bounds.clamp(current))
    desired = bounds.clamp(wish.desired)
    reason = None if desired != current else _reason(wish.desired, bounds)
    return Decision(desired, wish.policy, wish.why, reason)


def _reason(wanted: int, bounds: Bounds) -> NotScaled:
    if wanted > bounds.maximum:
        return "AlreadyAtMaxCapacity"
    return "AlreadyAtMinCapacity" if wanted < bounds.minimum else "AlreadyAtDesiredCapacity"


def _wish(current: int, policy: Policy, past: Past, now: float) -> Wish | None:
    """None: nothing is known, or an alarm is on that no step belongs to."""
    return _track(current, policy, past, now) if isinstance(policy, Tracking) else _step(current, policy, past, now)


def _track(current: int, policy: Tracking, past: Past, now: float) -> Wish | None:
    high, low = _newest(policy.high, policy.high_count), _newest(policy.low, policy.low_count)
    if len(high) == policy.high_count and min(high) > policy.target:
        wanted = _proportional(policy.serving, high[-1], policy.target)
        why = f"{_shown(high)} above the target of {policy.target:g} on {policy.serving}"
        if not _recent(past.scaled_out, policy.out_cooldown_s, now):
            return Wish(max(wanted, current), policy.name, why)
        return _larger(current, max(0, wanted - policy.serving), policy.name, why, past)
    if len(low) == policy.low_count and max(low) < policy.target * IN_SHARE:
        if policy.disable_scale_in:
            return None
        wanted = min(_proportional(policy.serving, max(low), policy.target), current)
        if _recent(past.changed, policy.in_cooldown_s, now):
            return Wish(current, policy.name, "", cooling=True)
        why = f"{_shown(low)} below {IN_SHARE:.0%} of the target of {policy.target:g} on {policy.serving}"
        return Wish(wanted, policy.name, why if wanted < current else "")
    return Wish(current, policy.name, "") if high else None


def _step(current: int, policy: Stepping, past: Past, now: float) -> Wish | None:
    step = next((each for each in policy.steps if _within(policy.beyond, each, policy.rising)), None)
    if step is None:
        return None
    wanted = adjusted(current, policy.kind, step.adjustment, policy.least_change)
    why = f"{policy.beyond:g} beyond the alarm's threshold"
    if wanted > current and _recent(past.scaled_out, policy.cooldown_s, now):
        before = current if past.before_out is None else past.before_out
        return _larger(current, adjusted(before, policy.kind, step.adjustment, policy.least_change) - before,
                       policy.name, why, past)  # fmt: skip
    if wanted < current and _recent(past.changed, policy.cooldown_s, now):
        return Wish(current, policy.name, "", cooling=True)
    return Wish(wanted, policy.name, why)


def _larger(current: int, added: int, name: str, why: str, past: Past) -> Wish:
    """In the cooldown of a scale-out what it added counts as part of the next: only a larger one goes on."""
    before = current if past.before_out is None else past.before_out
    wanted = before + added
    return Wish(wanted, name, why) if wanted > current else Wish(current, name, "", cooling=True)


def adjusted(current: int, kind: Adjustment, adjustment: int, least_change: int) -> int:
    """`current` after one adjustment. A percentage above 1 is rounded down, one below 1 becomes 1."""
    if kind == "ExactCapacity":
        return adjustment
    change = adjustment
    if kind == "PercentChangeInCapacity":
        part = current * abs(adjustment) / 100
        size = max(math.floor(part) if part >= 1 else math.ceil(part), least_change)
        change = size if adjustment > 0 else -size if adjustment < 0 else 0
    return min(max(current + change, 0), MOST)


def _within(beyond: float, step: Step, rising: bool) -> bool:
    low = -math.inf if step.lower is None else step.lower
    high = math.inf if step.upper is None else step.upper
    return low <= beyond < high if rising else low < beyond <= high


def _proportional(serving: int, value: float, target: float) -> int:
    """Capacity at which the load that `serving` bear now is `target` each; noise in the last digits is no load."""
    return min(math.ceil(round(serving * value / target, 6)), MOST)


def _newest(points: Sequence[float | None], count: int) -> list[float]:
    return [point for point in points if point is not None][-count:]


def _recent(moment: float | None, cooldown_s: float, now: float) -> bool:
    return moment is not None and now - moment < cooldown_s


def _shown(points: Sequence[float]) -> str:
    return f"[{', '.join(f'{point:g}' for point in points[-5:])}]"

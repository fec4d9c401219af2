"""When an alarm is on: the newest points of a metric against a threshold. Pure.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
Missing = Literal["missing", "ignore", "breaching", "notBreaching"]

EXTRA = 2
"""Periods that are looked at beyond those an alarm asks for, as points may be late."""
LATE_S = 5
"""A period counts as missing only so long after its end: replicas report it within a second or two."""

COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`needed` of the newest `periods` points, each `period` seconds long, beyond `threshold`."""

    statistic: str
    period: int
    periods: int
    needed: int
    threshold: float
    comparison: str
    missing: Missing

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Rule:
        """A rule from what PutMetricAlarm takes."""
        periods = document["EvaluationPeriods"]
        return cls(
            document.get("Statistic") or document["ExtendedStatistic"], document["Period"], periods,
            document.get("DatapointsToAlarm", periods), document["Threshold"], document["ComparisonOperator"],
            document.get("TreatMissingData", "missing"),
        )  # fmt: skip

    def window(self, now: float) -> range:
        """Starts of the periods that are looked at, oldest first."""
        end = int(now - LATE_S) // self.period * self.period
        return range(end - (self.periods + EXTRA) * self.period, end, self.period)


def evaluate(rule: Rule, points: Sequence[float | None]) -> State | None:
    """The state that `points` (oldest first, None where there is none) put an alarm in; None: the one it is in."""
    real = [point for point in points if point is not None][-rule.periods :]
    beyond = sum(COMPARE[rule.comparison](point, rule.threshold) for point in real)
    missing = rule.periods - len(real)
    if missing <= 0 or rule.missing == "notBreaching":
        return "ALARM" if beyond >= rule.needed else "OK"
    if rule.missing == "breaching":
        return "ALARM" if beyond + missing >= rule.needed else "OK"
    if beyond >= rule.needed:
        return "ALARM"
    if beyond < len(real):
        return "OK"
    if rule.missing == "ignore":
        return None
    return "ALARM" if real else "INSUFFICIENT_DATA"


def reason(rule: Rule, points: Sequence[float | None], state: State) -> str:
    """Why, in CloudWatch's words."""
    real = [point for point in points if point is not None][-rule.periods :]
    if state == "INSUFFICIENT_DATA":
        return f"Insufficient Data: {rule.periods} datapoints were unknown."
    beyond = sum(COMPARE[rule.comparison](point, rule.threshold) for point in real)
    count = beyond if state == "ALARM" else len(real) - beyond
    than = f"{'greater' if 'Greater' in rule.comparison else 'less'} than"
    than += " or equal to" if "OrEqual" in rule.comparison else ""
    shown = ", ".join(f"{point:g}" for point in reversed(real))
    was = "was" if state == "ALARM" else "was not"
    missing = f" and {rule.periods - len(real)} missing as {rule.missing}" if len(real) < rule.periods else ""
    return (
        f"Threshold Crossed: {count} out of the last {rule.periods} datapoints [{shown}]{missing} {was} {than} the "
        f"threshold ({rule.threshold:g}) (minimum {rule.needed} datapoint{'s' if rule.needed > 1 else ''} "
        f"for OK -> ALARM transition)."
    )[:1023]

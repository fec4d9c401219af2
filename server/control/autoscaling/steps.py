"""What a step scaling policy may say: ranges that neither overlap nor leave a gap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from server.control.autoscaling.listed import bad
from server.metrics.scaling import Step

MOST = 20
FIELD = "StepScalingPolicyConfiguration"


def check(configuration: Mapping[str, Any]) -> None:
    """Raises Refusal for a StepScalingPolicyConfiguration that could not be run."""
    if "AdjustmentType" not in configuration:
        raise bad("AdjustmentType is required for a step scaling policy.", FIELD)
    found = steps(configuration)
    if not found:
        raise bad("At least one step adjustment is required for a step scaling policy.", FIELD)
    if len(found) > MOST:
        raise bad(f"A step scaling policy has at most {MOST} step adjustments, not {len(found)}.", FIELD)
    if configuration.get("Cooldown", 0) < 0:
        raise bad(f"Cooldown must be 0 or more, got {configuration['Cooldown']}.", FIELD)
    least = configuration.get("MinAdjustmentMagnitude")
    if least is not None and (configuration["AdjustmentType"] != "PercentChangeInCapacity" or least < 1):
        raise bad("MinAdjustmentMagnitude must be 1 or more and goes with PercentChangeInCapacity only.", FIELD)
    if configuration["AdjustmentType"] == "ExactCapacity" and any(step.adjustment < 0 for step in found):
        raise bad("ScalingAdjustment cannot be negative with ExactCapacity.", FIELD)
    _check_ranges(found)


def steps(configuration: Mapping[str, Any]) -> list[Step]:
    return [
        Step(each.get("MetricIntervalLowerBound"), each.get("MetricIntervalUpperBound"), each["ScalingAdjustment"])
        for each in configuration.get("StepAdjustments", ())
    ]


def _check_ranges(found: Sequence[Step]) -> None:
    if any(step.lower is None and step.upper is None for step in found):
        raise bad("A step adjustment needs a lower or an upper bound.", FIELD)
    if any(None not in (step.lower, step.upper) and _low(step) >= _high(step) for step in found):
        raise bad("The upper bound of a step adjustment must be greater than its lower bound.", FIELD)
    if sum(step.lower is None for step in found) > 1 or sum(step.upper is None for step in found) > 1:
        raise bad("At most one step adjustment may have no lower bound, and one no upper bound.", FIELD)
    ordered = sorted(found, key=_low)
    for before, after in itertools.pairwise(ordered):
        if _high(before) != _low(after):
            words = "overlap" if _high(before) > _low(after) else "have a gap between them"
            raise bad(f"Step adjustments {words} at {min(_high(before), _low(after)):g}.", FIELD)
    if _low(ordered[0]) < 0 and ordered[0].lower is not None:
        raise bad("With a negative lower bound, one step adjustment must have no lower bound.", FIELD)
    if _high(ordered[-1]) > 0 and ordered[-1].upper is not None:
        raise bad("With a positive upper bound, one step adjustment must have no upper bound.", FIELD)


def _low(step: Step) -> float:
    return -math.inf if step.lower is None else step.lower


def _high(step: Step) -> float:
    return math.inf if step.upper is None else step.upper

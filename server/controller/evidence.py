"""What the policies of a scalable target go by: their metrics' newest points, and the alarms that are on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.control.autoscaling.steps import steps
from server.controller.alarms import alarm_points
from server.controller.meter import NAMESPACE
from server.metrics.alarm import EXTRA, LATE_S, Rule
from server.metrics.periods import PERIOD_S
from server.metrics.scaling import Past, Policy, Stepping, Tracking
from server.metrics.series import MetricStore
from server.metrics.tracking import HIGH_COUNT, Metric, alarm_names, cooldowns, low_count, tracked
from server.store.alarms import KIND as ALARM
from server.store.scaling import POLICY, Key, belonging
from server.store.store import Resource, Store

STEP_COOLDOWN_S = 300.0
"""Of a step scaling policy that names none."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A policy with what is known of its metric, and the alarms that stand for a scale-out and a scale-in by it."""

    policy: Policy
    high_alarm: str
    low_alarm: str


def evidence(store: Store, key: Key, past: Past, serving: int, now: float) -> list[Evidence]:
    """Of every policy that tracks a target, and every one with steps whose alarm is on. `serving`: capacity that is
    there."""
    policies = belonging(store, POLICY, key)
    tracking = [each for each in policies if each.document["PolicyType"] == "TargetTrackingScaling"]
    stepping = [each for each in policies if each.document["PolicyType"] == "StepScaling"]
    found = [_tracking(store, key, each, past, serving, now) for each in tracking]
    if stepping:
        on = [each for each in store.find(ALARM, ("ALARM",)) if each.document.get("ActionsEnabled", True)]
        found += [taken for each in stepping for taken in _stepping(store, each, on, now)]
    return found


def _tracking(store: Store, key: Key, row: Resource, past: Past, serving: int, now: float) -> Evidence:
    configuration = row.document["TargetTrackingScalingPolicyConfiguration"]
    metric = tracked(configuration, key.measured)
    out_s, in_s = cooldowns(configuration, key.dimension)
    count = low_count(metric, in_s)
    # What was measured before the last change says nothing about the capacity that is there now.
    newest = _newest(store, metric, max(count, HIGH_COUNT) + EXTRA, now) if serving else []
    points = [value for start, value in newest if start >= past.changed]
    policy = Tracking(
        name=row.document["PolicyName"], target=configuration["TargetValue"], out_cooldown_s=out_s,
        in_cooldown_s=in_s, disable_scale_in=configuration.get("DisableScaleIn", False),
        high=points[-HIGH_COUNT - EXTRA :], high_count=HIGH_COUNT, low=points, low_count=count, serving=serving,
    )  # fmt: skip
    return Evidence(policy, *alarm_names(row.document["Id"], key.resource_id))


def _newest(store: Store, metric: Metric, count: int, now: float) -> Sequence[tuple[int, float | None]]:
    end = int(now - LATE_S) // metric.period * metric.period
    window = range(end - count * metric.period, end, metric.period)
    metrics = MetricStore(store.engine, store.account, store.region)
    values = metrics.points(
        metric.namespace, metric.name, metric.dimensions, metric.unit, window, metric.statistic
    )  # fmt: skip
    return list(zip(window, values, strict=True))


def _stepping(store: Store, row: Resource, alarms: Sequence[Resource], now: float) -> Iterator[Evidence]:
    """By the first alarm that is on and names the policy."""
    alarm = next((each for each in alarms if row.arn in each.document.get("AlarmActions", ())), None)
    if alarm is None:
        return
    configuration: Mapping[str, Any] = row.document["StepScalingPolicyConfiguration"]
    rule = Rule.of(alarm.document)
    points = [each for each in alarm_points(store, alarm, rule, rule.window(now)) if each is not None]
    policy = Stepping(
        name=row.document["PolicyName"], kind=configuration["AdjustmentType"], steps=steps(configuration),
        least_change=configuration.get("MinAdjustmentMagnitude", 0),
        cooldown_s=configuration.get("Cooldown", STEP_COOLDOWN_S),
        # An alarm that was set by hand may have no points: it is as if its metric were just at the threshold.
        beyond=points[-1] - rule.threshold if points else 0.0, rising=rule.comparison.startswith("Greater"),
    )  # fmt: skip
    yield Evidence(policy, alarm.name, alarm.name)


def was_asked(store: Store, key: Key, since: float, now: float) -> bool:
    """Whether any replica of the variant answered a request in a period that began after `since`."""
    start = math.ceil(since / PERIOD_S) * PERIOD_S
    metrics = MetricStore(store.engine, store.account, store.region)
    series = metrics.one(NAMESPACE, "Invocations", key.measured)
    return series is not None and start < now and bool(metrics.read(series, start, math.ceil(now), 60))

"""The metric that a target tracking policy keeps near its target, and the two alarms that show where it is. Pure.

AWS evaluates standard metrics by the minute: 3 points above the target scale out, 15 points below it scale in. Of a
high-resolution metric 3 points of ten seconds scale out; on AWS it scales in as slowly as the others, here after as
long as ScaleInCooldown (from 30 seconds to 15 minutes), as replicas are back in seconds.

https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-policy.html
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.metrics.scaling import IN_SHARE

NAMESPACE = "AWS/SageMaker"
INSTANCES, PROVISIONED = "sagemaker:variant:DesiredInstanceCount", "sagemaker:variant:DesiredProvisionedConcurrency"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
PREDEFINED: Mapping[str, tuple[str, str, str, int]] = {
    "SageMakerVariantInvocationsPerInstance": (INSTANCES, "InvocationsPerInstance", "Sum", 60),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": (
        INSTANCES, "ConcurrentRequestsPerModel", "Average", 10,
    ),
    "SageMakerInferenceComponentInvocationsPerCopy": (COPIES, "InvocationsPerCopy", "Sum", 60),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": (
        COPIES, "ConcurrentRequestsPerCopy", "Average", 10,
    ),
    "SageMakerVariantProvisionedConcurrencyUtilization": (
        PROVISIONED, "ServerlessProvisionedConcurrencyUtilization", "Average", 60,
    ),
}  # fmt: skip
"""Scalable dimension, metric, statistic and period of the predefined metrics of SageMaker's variants and components."""
COOLDOWN_S: Mapping[str, float] = {INSTANCES: 300.0, PROVISIONED: 0.0, COPIES: 300.0}
"""Of a target tracking policy that names none."""
HIGH_COUNT = 3
LOW_S = 15 * 60


@dataclass(frozen=True, slots=True)
class Metric:
    """A statistic of a metric, by periods of so many seconds."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str
    unit: str | None
    period: int


def tracked(configuration: Mapping[str, Any], own: Mapping[str, str]) -> Metric:
    """The metric of a TargetTrackingScalingPolicyConfiguration that PutScalingPolicy took. `own`: dimensions of the
    predefined metrics of what is scaled."""
    if predefined := configuration.get("PredefinedMetricSpecification"):
        _dimension, name, statistic, period = PREDEFINED[predefined["PredefinedMetricType"]]
        return Metric(NAMESPACE, name, own, statistic, None, period)
    given = configuration["CustomizedMetricSpecification"]
    if queries := given.get("Metrics"):
        stat = queries[0]["MetricStat"]
        given = {**stat["Metric"], "Statistic": stat["Stat"], **({"Unit": stat["Unit"]} if "Unit" in stat else {})}
    dimensions = {each["Name"]: each["Value"] for each in given.get("Dimensions", ())}
    return Metric(given["Namespace"], given["MetricName"], dimensions, given["Statistic"], given.get("Unit"), 60)


def cooldowns(configuration: Mapping[str, Any], dimension: str) -> tuple[float, float]:
    """Seconds after a scale-out and after a scale-in."""
    usual = COOLDOWN_S[dimension]
    return configuration.get("ScaleOutCooldown", usual), configuration.get("ScaleInCooldown", usual)


def low_count(metric: Metric, in_cooldown_s: float) -> int:
    """Points that must be below the target for a scale-in."""
    if metric.period >= 60:
        return LOW_S // metric.period
    return round(min(max(in_cooldown_s, 3 * metric.period), LOW_S) / metric.period)


def alarm_names(policy_id: str, resource_id: str) -> tuple[str, str]:
    """Of the alarms above and below the target; they follow from the policy."""
    high, low = (str(uuid.uuid5(uuid.UUID(policy_id), side)) for side in ("AlarmHigh", "AlarmLow"))
    return f"TargetTracking-{resource_id}-AlarmHigh-{high}", f"TargetTracking-{resource_id}-AlarmLow-{low}"


def alarms(
    configuration: Mapping[str, Any], metric: Metric, dimension: str, policy_arn: str
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What PutMetricAlarm would be given for the two; no second one where scale-in is disabled."""
    target = configuration["TargetValue"]
    common = {
        "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy_arn}.",
        "ActionsEnabled": True, "AlarmActions": [policy_arn], "OKActions": [], "InsufficientDataActions": [],
        "Namespace": metric.namespace, "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions.items()],
        "Statistic": metric.statistic, "Period": metric.period,
        **({"Unit": metric.unit} if metric.unit else {}),
    }  # fmt: skip
    high = {
        **common, "EvaluationPeriods": HIGH_COUNT, "Threshold": target, "ComparisonOperator": "GreaterThanThreshold",
    }  # fmt: skip
    if configuration.get("DisableScaleIn"):
        return high, None
    count = low_count(metric, cooldowns(configuration, dimension)[1])
    low = {
        **common, "EvaluationPeriods": count, "Threshold": round(target * IN_SHARE, 12),
        "ComparisonOperator": "LessThanThreshold",
    }  # fmt: skip
    return high, low

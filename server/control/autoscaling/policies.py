"""Scaling policies: a target that a metric is kept near, or steps that an alarm takes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from server.control.autoscaling import steps
from server.control.autoscaling.listed import bad, chosen, key, missing, page, target
from server.control.autoscaling.service import AUTOSCALING
from server.control.autoscaling.targets import forget_policy
from server.control.operations import Answer, Context, Request
from server.errors import Conflict, NotFound, Refusal
from server.metrics.tracking import PREDEFINED, alarm_names, alarms, tracked
from server.store.alarms import KIND as ALARM
from server.store.alarms import history, with_history
from server.store.scaling import POLICY, Key, belonging
from server.store.store import Resource, Store

MAX_POLICIES = 50
CONFIGURATIONS: Mapping[str, str] = {
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
    "StepScaling": "StepScalingPolicyConfiguration",
}
_TRACKING = CONFIGURATIONS["TargetTrackingScaling"]
_MOST = 2.0**360


@AUTOSCALING.operation
def put_scaling_policy(context: Context, request: Request) -> Answer:
    """A new policy, or another configuration of one that is there. Target tracking gets its alarms."""
    found = key(request)
    target(context, found)
    with context.store.transaction() as store:
        before = _get(store, found, request["PolicyName"])
        document = _document(found, request, before.document if before else {})
        others = [each for each in belonging(store, POLICY, found) if before is None or each.id != before.id]
        _check(document, found, others)
        policy = _kept(context, store, found, document, before)
        _put_alarms(context, store, found, policy)
        return {"PolicyARN": policy.arn, "Alarms": _alarms(store.find(ALARM), policy)}


def _document(found: Key, request: Request, before: Mapping[str, Any]) -> dict[str, Any]:
    kind = request.get("PolicyType", before.get("PolicyType"))
    if kind is None:
        raise bad("PolicyType is required to create a scaling policy.", "PolicyType")
    if before and before["PolicyType"] != kind:
        raise bad(f"The type of policy {request['PolicyName']} is {before['PolicyType']}; it cannot be changed.",
                  "PolicyType")  # fmt: skip
    if kind not in CONFIGURATIONS:
        raise bad(f"Policy type {kind} is not supported for service namespace {found.namespace}.", "PolicyType")
    member = CONFIGURATIONS[kind]
    others = [name for name in request if name.endswith("PolicyConfiguration") and name != member]
    if others:
        raise bad(f"{others[0]} does not go with PolicyType {kind}.", others[0])
    if member not in request and member not in before:
        raise bad(f"{member} is required for PolicyType {kind}.", member)
    return {
        **found.members, "PolicyName": request["PolicyName"], "PolicyType": kind,
        member: request.get(member, before.get(member)),
    }  # fmt: skip


def _check(document: Mapping[str, Any], found: Key, others: list[Resource]) -> None:
    if document["PolicyType"] == "StepScaling":
        steps.check(document[CONFIGURATIONS["StepScaling"]])
    else:
        _check_tracking(document[_TRACKING], found)
        others_track = [each.document[_TRACKING] for each in others if _TRACKING in each.document]
        metrics = [tracked(each, found.measured) for each in (document[_TRACKING], *others_track)]
        if metrics[0] in metrics[1:]:
            raise bad("Only one TargetTrackingScaling policy for a given metric specification is allowed.", _TRACKING)
    if len(others) >= MAX_POLICIES:
        raise Refusal("LimitExceededException", f"A scalable target has at most {MAX_POLICIES} scaling policies.")


def _check_tracking(configuration: Mapping[str, Any], found: Key) -> None:
    if not 0 < configuration["TargetValue"] <= _MOST:
        raise bad(f"TargetValue must be above 0 and at most 2^360, got {configuration['TargetValue']:g}.", _TRACKING)
    for member in ("ScaleOutCooldown", "ScaleInCooldown"):
        if configuration.get(member, 0) < 0:
            raise bad(f"{member} must be 0 or more, got {configuration[member]}.", _TRACKING)
    predefined, customized = (configuration.get(f"{kind}MetricSpecification") for kind in ("Predefined", "Customized"))
    if (predefined is None) == (customized is None):
        raise bad("Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must be specified.",
                  _TRACKING)  # fmt: skip
    if predefined is not None:
        known = [name for name, facts in PREDEFINED.items() if facts[0] == found.dimension]
        if predefined["PredefinedMetricType"] not in known:
            raise bad(f"Scalable dimension {found.dimension} only supports the following predefined metric types: "
                      f"{', '.join(known)}", _TRACKING)  # fmt: skip
        if "ResourceLabel" in predefined:
            raise bad("ResourceLabel goes with ALBRequestCountPerTarget only.", _TRACKING)
    else:
        _check_customized(customized or {})


def _check_customized(given: Mapping[str, Any]) -> None:
    """One metric with a statistic, named directly or as the one query."""
    if "Metrics" not in given:
        for member in ("MetricName", "Namespace", "Statistic"):
            if not given.get(member):
                raise bad(f"CustomizedMetricSpecification needs {member}.", _TRACKING)
        return
    queries = given["Metrics"]
    stat = queries[0].get("MetricStat") if len(queries) == 1 and "Expression" not in queries[0] else None
    if stat is None or len(given) > 1:
        raise bad("CustomizedMetricSpecification: Hearth has no metric math; Metrics must be one query with a "
                  "MetricStat and no Expression, and nothing beside it.", _TRACKING)  # fmt: skip
    if not stat["Metric"].get("Namespace") or not stat["Metric"].get("MetricName"):
        raise bad("CustomizedMetricSpecification: its metric needs a Namespace and a MetricName.", _TRACKING)
    known = AUTOSCALING.model.shape_for("MetricStatistic").enum
    if stat["Stat"] not in known:
        raise bad(f"CustomizedMetricSpecification: Stat {stat['Stat']!r} is none of {', '.join(known)}.", _TRACKING)


def _kept(
    context: Context, store: Store, found: Key, document: dict[str, Any], before: Resource | None
) -> Resource:
    """The policy's row, with its id and the names of its own alarms."""
    policy_id = before.document["Id"] if before else str(uuid.uuid4())
    own: list[str] = []
    if _TRACKING in document:
        high, low = alarm_names(policy_id, found.resource_id)
        own = [high] if document[_TRACKING].get("DisableScaleIn") else [high, low]
    document |= {"Id": policy_id, "OwnAlarms": own}
    name = document["PolicyName"]
    arn = f"arn:aws:autoscaling:{context.region}:{context.account}:scalingPolicy:{policy_id}:"
    arn += f"resource/{found.namespace}/{found.resource_id}:policyName/{name}"
    try:
        if before is not None:
            return store.replace(before, document, before.status)
        return store.create(POLICY, found.row_name(name), document, "Active", arn=arn, facets={"target": found.facet})
    except Conflict as error:
        raise Refusal("ConcurrentUpdateException", error.message) from None


def _put_alarms(context: Context, store: Store, found: Key, policy: Resource) -> None:
    """Makes, changes or removes the alarms of a policy that tracks a target."""
    configuration = policy.document.get(_TRACKING)
    if configuration is None:
        return
    metric = tracked(configuration, found.measured)
    rules = alarms(configuration, metric, found.dimension, policy.arn)
    for name, rule in zip(alarm_names(policy.document["Id"], found.resource_id), rules, strict=True):
        current = _alarm(store, name)
        if rule is None:
            if current is not None:
                store.remove(current)
        elif current is not None:
            if current.document != rule:
                replaced = store.replace(current, rule, current.status)
                changed = with_history(current, "ConfigurationUpdate", f'Alarm "{name}" updated', {"type": "Update"})
                store.observe(replaced, changed)
        else:
            arn = f"arn:aws:cloudwatch:{context.region}:{context.account}:alarm:{name}"
            made = store.create(ALARM, name, rule, "INSUFFICIENT_DATA", arn=arn)
            store.observe(made, history({}, "ConfigurationUpdate", f'Alarm "{name}" created', {"type": "Create"}))


@AUTOSCALING.operation
def describe_scaling_policies(context: Context, request: Request) -> Answer:
    found = chosen(context, POLICY, request, "PolicyNames", "PolicyName")
    every = context.store.find(ALARM)

    def view(each: Resource) -> dict[str, Any]:
        return {
            **each.document, "PolicyARN": each.arn, "CreationTime": each.created_at,
            "Alarms": _alarms(every, each),
        }  # fmt: skip

    return page("DescribeScalingPolicies", request, found, view, "ScalingPolicies")


def _alarms(every: list[Resource], policy: Resource) -> list[dict[str, str]]:
    """Those of `every` alarm that trigger a policy, whoever made them."""
    return [
        {"AlarmName": each.name, "AlarmARN": each.arn}
        for each in every
        if policy.arn in each.document.get("AlarmActions", ())
    ]


@AUTOSCALING.operation
def delete_scaling_policy(context: Context, request: Request) -> Answer:
    """With the alarms that were made for it; those that only trigger it stay."""
    found = key(request)
    with context.store.transaction() as store:
        policy = _get(store, found, request["PolicyName"])
        if policy is None:
            raise missing("scaling policy found", found, f"policy name: {request['PolicyName']}")
        try:
            forget_policy(store, policy)
        except Conflict as error:
            raise Refusal("ConcurrentUpdateException", error.message) from None
    return {}


def _get(store: Store, found: Key, name: str) -> Resource | None:
    try:
        return store.get(POLICY, found.row_name(name))
    except NotFound:
        return None


def _alarm(store: Store, name: str) -> Resource | None:
    try:
        return store.get(ALARM, name)
    except NotFound:
        return None

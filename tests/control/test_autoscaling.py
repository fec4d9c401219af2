"""Application Auto Scaling through boto3; what it makes happen is in `tests/controller/test_scaler.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.metrics.tracking import INSTANCES, PROVISIONED
from server.store.scaling import Key, record
from server.store.store import Store
from tests.control.conftest import ACCOUNT, REGION, client
from tests.control.test_endpoint_resource import settle
from tests.control.test_models import SERVERLESS, make_config, make_model, refused

VARIANT: dict[str, Any] = {
    "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/ep/variant/AllTraffic", "ScalableDimension": INSTANCES,
}  # fmt: skip
OF = {name: VARIANT[name] for name in ("ServiceNamespace", "ResourceId")}
TRACK: dict[str, Any] = {
    "TargetValue": 70.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
}
STEPS: dict[str, Any] = {
    "AdjustmentType": "ChangeInCapacity", "Cooldown": 60, "MetricAggregationType": "Maximum",
    "StepAdjustments": [
        {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 10.0, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 10.0, "ScalingAdjustment": 3},
    ],
}  # fmt: skip


@pytest.fixture
def endpoint(sagemaker: Any, store: Store) -> Any:
    """Has an endpoint `ep` on instances in service."""
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    settle(store)
    return sagemaker


@pytest.fixture
def scaling(endpoint: Any, address: str) -> Iterator[Any]:
    made = client(address, "application-autoscaling")
    yield made
    made.close()


@pytest.fixture
def registered(scaling: Any) -> Any:
    scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=4)
    return scaling


@pytest.fixture
def cloudwatch(address: str) -> Iterator[Any]:
    made = client(address, "cloudwatch")
    yield made
    made.close()


def put(scaling: Any, name: str = "track", kind: str = "TargetTrackingScaling", **configuration: Any) -> dict[str, Any]:
    given = {f"{kind}PolicyConfiguration": {**(STEPS if "Step" in kind else TRACK), **configuration}}
    return dict(scaling.put_scaling_policy(**VARIANT, PolicyName=name, PolicyType=kind, **given))


def test_a_target_is_registered_changed_described_and_deregistered(scaling: Any) -> None:
    made = scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=4, Tags={"a": "1"})
    arn = made["ScalableTargetARN"]
    assert arn.startswith(f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT}:scalable-target/")
    (found,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (found["MinCapacity"], found["MaxCapacity"], found["ScalableTargetARN"]) == (1, 4, arn)
    assert found["RoleARN"].endswith("/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    assert set(found["SuspendedState"].values()) == {False}
    again = scaling.register_scalable_target(
        **VARIANT, MaxCapacity=8, SuspendedState={"DynamicScalingInSuspended": True}
    )  # fmt: skip
    assert again["ScalableTargetARN"] == arn
    (found,) = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[VARIANT["ResourceId"]], ScalableDimension=INSTANCES
    )["ScalableTargets"]
    assert (found["MinCapacity"], found["MaxCapacity"]) == (1, 8)
    assert found["SuspendedState"] == {
        "DynamicScalingInSuspended": True, "DynamicScalingOutSuspended": False, "ScheduledScalingSuspended": False,
    }  # fmt: skip
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"a": "1"}
    assert scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"] == []
    scaling.deregister_scalable_target(**VARIANT)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert refused(scaling.deregister_scalable_target, **VARIANT) == (
        "ObjectNotFoundException",
        "No scalable target found for service namespace: sagemaker, resource ID: endpoint/ep/variant/AllTraffic, "
        "scalable dimension: sagemaker:variant:DesiredInstanceCount",
    )


def test_targets_of_another_region_are_others(registered: Any, address: str) -> None:
    elsewhere = client(address, "application-autoscaling", region="eu-west-1")
    assert elsewhere.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    elsewhere.close()


UNSUPPORTED = "Unsupported service namespace, resource type or scalable dimension"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ServiceNamespace": "ecs"}, UNSUPPORTED),
        ({"ScalableDimension": "ecs:service:DesiredCount"}, UNSUPPORTED),
        ({"ScalableDimension": "sagemaker:inference-component:DesiredCopyCount"}, UNSUPPORTED),
        ({"ResourceId": "table/x"}, UNSUPPORTED),
        ({"ResourceId": "endpoint/ep/variant/"}, UNSUPPORTED),
        ({"ResourceId": "endpoint/none/variant/AllTraffic"}, "endpoint doesn't exist"),
        ({"ResourceId": "endpoint/ep/variant/none"}, "variant doesn't exist"),
        ({"ScalableDimension": PROVISIONED}, "variant on instances"),
        ({"MinCapacity": 5}, "Maximum capacity cannot be less than minimum capacity"),
        ({"MinCapacity": -1}, "Minimum capacity"),
        ({"MaxCapacity": 1001}, "1000"),
        ({"MinCapacity": None}, "minimum capacity is required"),
        ({"MaxCapacity": None}, "maximum capacity is required"),
        ({"Tags": {"aws:x": "1"}}, "aws:x"),
        ({"Tags": {str(n): "x" for n in range(51)}}, "51 tags"),
    ],
)
def test_what_cannot_be_registered(scaling: Any, changes: dict[str, Any], words: str) -> None:
    request = {**VARIANT, "MinCapacity": 1, "MaxCapacity": 4, **changes}
    code, message = refused(scaling.register_scalable_target, **{k: v for k, v in request.items() if v is not None})
    assert (code, words in message) == ("ValidationException", True), message
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_a_serverless_variant_has_provisioned_concurrency(sagemaker: Any, store: Store, address: str) -> None:
    make_model(sagemaker)
    make_config(sagemaker, "c", SERVERLESS)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    scaling = client(address, "application-autoscaling")
    serverless = {**VARIANT, "ResourceId": "endpoint/ep/variant/v"}
    assert "serverless" in refused(scaling.register_scalable_target, **serverless, MinCapacity=1, MaxCapacity=2)[1]
    provisioned = {**serverless, "ScalableDimension": PROVISIONED}
    config: Any = SERVERLESS["ServerlessConfig"]
    most = config["MaxConcurrency"]
    scaling.register_scalable_target(**provisioned, MinCapacity=1, MaxCapacity=most)
    assert str(most) in refused(scaling.register_scalable_target, **provisioned, MaxCapacity=most + 1)[1]
    request = {**provisioned, "PolicyName": "p", "PolicyType": "TargetTrackingScaling"}
    code, message = refused(scaling.put_scaling_policy, **request, TargetTrackingScalingPolicyConfiguration=TRACK)
    assert (code, message) == (
        "ValidationException",
        "Scalable dimension sagemaker:variant:DesiredProvisionedConcurrency only supports the following predefined "
        "metric types: SageMakerVariantProvisionedConcurrencyUtilization",
    )
    used = {"PredefinedMetricType": "SageMakerVariantProvisionedConcurrencyUtilization"}
    tracking = {"TargetValue": 0.7, "PredefinedMetricSpecification": used}
    assert len(scaling.put_scaling_policy(**request, TargetTrackingScalingPolicyConfiguration=tracking)["Alarms"]) == 2
    scaling.close()


def test_target_tracking_makes_its_alarms(registered: Any, cloudwatch: Any) -> None:
    made = put(registered)
    arn = made["PolicyARN"]
    assert arn.startswith(f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:scalingPolicy:")
    assert arn.endswith(":resource/sagemaker/endpoint/ep/variant/AllTraffic:policyName/track")
    high, low = made["Alarms"]
    assert high["AlarmName"].startswith("TargetTracking-endpoint/ep/variant/AllTraffic-AlarmHigh-")
    assert low["AlarmName"].startswith("TargetTracking-endpoint/ep/variant/AllTraffic-AlarmLow-")
    found = {each["AlarmName"]: each for each in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert set(found) == {high["AlarmName"], low["AlarmName"]}
    rule = found[high["AlarmName"]]
    assert (rule["MetricName"], rule["Statistic"], rule["Period"]) == ("InvocationsPerInstance", "Sum", 60)
    assert (rule["Threshold"], rule["EvaluationPeriods"], rule["AlarmActions"]) == (70.0, 3, [arn])
    assert {each["Name"]: each["Value"] for each in rule["Dimensions"]} == {
        "EndpointName": "ep", "VariantName": "AllTraffic",
    }  # fmt: skip
    rule = found[low["AlarmName"]]
    assert (rule["Threshold"], rule["EvaluationPeriods"], rule["ComparisonOperator"]) == (63.0, 15, "LessThanThreshold")
    (policy,) = registered.describe_scaling_policies(**OF)["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"] == TRACK
    assert (policy["PolicyARN"], policy["PolicyName"], policy["Alarms"]) == (arn, "track", made["Alarms"])
    again = put(registered, TargetValue=50.0, DisableScaleIn=True)
    assert (again["PolicyARN"], again["Alarms"]) == (arn, [high])
    (rule,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert rule["Threshold"] == 50.0
    registered.delete_scaling_policy(**VARIANT, PolicyName="track")
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []
    code, message = refused(registered.delete_scaling_policy, **VARIANT, PolicyName="track")
    assert (code, message.endswith("policy name: track")) == ("ObjectNotFoundException", True)


def test_high_resolution_scales_in_as_fast_as_its_cooldown(registered: Any, cloudwatch: Any) -> None:
    fast = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
    put(registered, TargetValue=5.0, PredefinedMetricSpecification=fast, ScaleInCooldown=60)
    rules = cloudwatch.describe_alarms()["MetricAlarms"]
    assert {(each["Period"], each["EvaluationPeriods"], each["Statistic"]) for each in rules} == {
        (10, 3, "Average"), (10, 6, "Average"),
    }  # fmt: skip


def test_steps_belong_to_the_alarms_that_name_them(registered: Any, cloudwatch: Any) -> None:
    made = put(registered, "up", "StepScaling")
    assert made["Alarms"] == []
    cloudwatch.put_metric_alarm(
        AlarmName="busy", AlarmActions=[made["PolicyARN"]], Namespace="AWS/SageMaker", MetricName="Invocations",
        Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=5, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    (policy,) = registered.describe_scaling_policies(**OF, PolicyNames=["up"])["ScalingPolicies"]
    assert policy["StepScalingPolicyConfiguration"] == STEPS
    assert [each["AlarmName"] for each in policy["Alarms"]] == ["busy"]
    registered.delete_scaling_policy(**VARIANT, PolicyName="up")
    assert [each["AlarmName"] for each in cloudwatch.describe_alarms()["MetricAlarms"]] == ["busy"]


CUSTOM = {"MetricName": "Queue", "Namespace": "mine", "Statistic": "Average", "Dimensions": []}
QUERY = {"Id": "a", "MetricStat": {"Metric": {"Namespace": "mine", "MetricName": "Queue"}, "Stat": "Average"}}


def test_metrics_of_ones_own(registered: Any, cloudwatch: Any) -> None:
    own = {"TargetValue": 3.0, "CustomizedMetricSpecification": CUSTOM}
    request = {**VARIANT, "PolicyName": "own", "PolicyType": "TargetTrackingScaling"}
    registered.put_scaling_policy(**request, TargetTrackingScalingPolicyConfiguration=own)
    own["CustomizedMetricSpecification"] = {"Metrics": [QUERY]}
    registered.put_scaling_policy(**request, TargetTrackingScalingPolicyConfiguration=own)
    rules = cloudwatch.describe_alarms()["MetricAlarms"]
    assert {(each["Namespace"], each["MetricName"], each["Statistic"]) for each in rules} == {
        ("mine", "Queue", "Average")
    }


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("TargetTrackingScaling", {"TargetValue": 0.0}, "TargetValue"),
        ("TargetTrackingScaling", {"TargetValue": 1e200}, "2^360"),
        ("TargetTrackingScaling", {"ScaleInCooldown": -1}, "ScaleInCooldown"),
        ("TargetTrackingScaling", {"CustomizedMetricSpecification": CUSTOM}, "Exactly one"),
        ("TargetTrackingScaling", {"PredefinedMetricSpecification": None}, "Exactly one"),
        ("TargetTrackingScaling", {"PredefinedMetricSpecification": {
            "PredefinedMetricType": "ECSServiceAverageCPUUtilization"}}, "only supports the following predefined"),
        ("TargetTrackingScaling", {"PredefinedMetricSpecification": {
            **TRACK["PredefinedMetricSpecification"], "ResourceLabel": "app/x"}}, "ResourceLabel"),
        ("TargetTrackingScaling", {"PredefinedMetricSpecification": None, "CustomizedMetricSpecification": {
            "MetricName": "x", "Namespace": "y"}}, "Statistic"),
        ("TargetTrackingScaling", {"PredefinedMetricSpecification": None, "CustomizedMetricSpecification": {
            "Metrics": [{"Id": "a", "Expression": "b / 2"}]}}, "metric math"),
        ("TargetTrackingScaling", {"PredefinedMetricSpecification": None, "CustomizedMetricSpecification": {
            "Metrics": [{**QUERY, "MetricStat": {**QUERY["MetricStat"], "Stat": "p99"}}]}}, "p99"),  # type: ignore[dict-item]
        ("StepScaling", {"AdjustmentType": None}, "AdjustmentType"),
        ("StepScaling", {"StepAdjustments": []}, "At least one"),
        ("StepScaling", {"StepAdjustments": [{"ScalingAdjustment": 1}]}, "lower or an upper"),
        ("StepScaling", {"Cooldown": -1}, "Cooldown"),
        ("StepScaling", {"MinAdjustmentMagnitude": 2}, "PercentChangeInCapacity"),
        ("StepScaling", {"AdjustmentType": "ExactCapacity", "StepAdjustments": [
            {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": -1}]}, "ExactCapacity"),
        ("StepScaling", {"StepAdjustments": [
            {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 5.0, "ScalingAdjustment": 1},
            {"MetricIntervalLowerBound": 6.0, "ScalingAdjustment": 1}]}, "gap"),
        ("StepScaling", {"StepAdjustments": [
            {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 5.0, "ScalingAdjustment": 1},
            {"MetricIntervalLowerBound": 4.0, "ScalingAdjustment": 1}]}, "overlap"),
        ("StepScaling", {"StepAdjustments": [
            {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 5.0, "ScalingAdjustment": 1}]},
         "no upper bound"),
        ("StepScaling", {"StepAdjustments": [
            {"MetricIntervalLowerBound": -5.0, "ScalingAdjustment": 1}]}, "no lower bound"),
        ("StepScaling", {"StepAdjustments": [
            {"MetricIntervalLowerBound": 5.0, "MetricIntervalUpperBound": 5.0, "ScalingAdjustment": 1}]}, "greater"),
        ("StepScaling", {"StepAdjustments": [{"MetricIntervalLowerBound": float(n), "ScalingAdjustment": 1}
                                             for n in range(21)]}, "at most 20"),
    ],
)  # fmt: skip
def test_bad_policies_are_named(registered: Any, kind: str, changes: dict[str, Any], words: str) -> None:
    base = STEPS if kind == "StepScaling" else TRACK
    config = {name: value for name, value in {**base, **changes}.items() if value is not None}
    code, message = refused(
        registered.put_scaling_policy, **VARIANT, PolicyName="bad", PolicyType=kind,
        **{f"{kind}PolicyConfiguration": config},
    )  # fmt: skip
    assert (code, words in message) == ("ValidationException", True), message
    assert registered.describe_scaling_policies(**OF)["ScalingPolicies"] == []


def test_policies_and_what_they_must_not_be(registered: Any) -> None:
    put(registered)
    call = registered.put_scaling_policy
    step, track = ({f"{kind}PolicyConfiguration": config}
                   for kind, config in (("StepScaling", STEPS), ("TargetTrackingScaling", TRACK)))  # fmt: skip
    cases: list[tuple[dict[str, Any], str]] = [
        ({"PolicyName": "x"}, "PolicyType is required"),
        ({"PolicyName": "x", "PolicyType": "StepScaling"}, "StepScalingPolicyConfiguration is required"),
        ({"PolicyName": "x", "PolicyType": "StepScaling", **step, **track}, "does not go with"),
        ({"PolicyName": "x", "PolicyType": "PredictiveScaling"}, "not supported"),
        ({"PolicyName": "track", "PolicyType": "StepScaling", **step}, "cannot be changed"),
        ({"PolicyName": "x", "PolicyType": "TargetTrackingScaling", **track},
         "Only one TargetTrackingScaling policy for a given metric specification is allowed."),
    ]  # fmt: skip
    for request, words in cases:
        code, message = refused(call, **VARIANT, **request)
        assert (code, words in message) == ("ValidationException", True), message
    registered.deregister_scalable_target(**VARIANT)
    code, message = refused(call, **VARIANT, PolicyName="x", PolicyType="StepScaling", **step)
    assert code == "ObjectNotFoundException"
    assert message.startswith("No scalable target registered for service namespace: sagemaker, resource ID: endpoint/")


def test_there_is_a_limit_of_policies(registered: Any) -> None:
    for n in range(50):
        put(registered, f"p{n}", "StepScaling")
    request = {**VARIANT, "PolicyName": "p50", "PolicyType": "StepScaling"}
    assert refused(registered.put_scaling_policy, **request, StepScalingPolicyConfiguration=STEPS)[0] == (
        "LimitExceededException"
    )
    pages = registered.get_paginator("describe_scaling_policies").paginate(**OF, PaginationConfig={"PageSize": 20})
    names = [[policy["PolicyName"] for policy in page["ScalingPolicies"]] for page in pages]
    assert [len(page) for page in names] == [20, 20, 10]
    assert sorted(name for page in names for name in page) == sorted(f"p{n}" for n in range(50))


def test_scheduled_actions(registered: Any) -> None:
    begin, end = (datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) for days in (1, 9))
    action = {**VARIANT, "ScheduledActionName": "office hours"}
    registered.put_scheduled_action(
        **action, Schedule="cron(0 8 ? * MON-FRI *)", Timezone="Europe/Berlin", StartTime=begin, EndTime=end,
        ScalableTargetAction={"MinCapacity": 2, "MaxCapacity": 8},
    )  # fmt: skip
    (found,) = registered.describe_scheduled_actions(**OF)["ScheduledActions"]
    assert found["ScheduledActionARN"].endswith(
        ":resource/sagemaker/endpoint/ep/variant/AllTraffic:scheduledActionName/office hours"
    )
    assert (found["Schedule"], found["Timezone"]) == ("cron(0 8 ? * MON-FRI *)", "Europe/Berlin")
    assert (found["StartTime"], found["EndTime"]) == (begin, end)
    registered.put_scheduled_action(**action, ScalableTargetAction={"MinCapacity": 3})
    (found,) = registered.describe_scheduled_actions(
        ServiceNamespace="sagemaker", ScheduledActionNames=["office hours", "other"]
    )["ScheduledActions"]  # fmt: skip
    assert found["ScalableTargetAction"] == {"MinCapacity": 3}
    assert (found["Schedule"], "StartTime" in found) == ("cron(0 8 ? * MON-FRI *)", False)
    registered.delete_scheduled_action(**action)
    assert registered.describe_scheduled_actions(**OF)["ScheduledActions"] == []
    code, message = refused(registered.delete_scheduled_action, **action)
    assert (code, message.endswith("scheduled action name: office hours")) == ("ObjectNotFoundException", True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Schedule": None}, "Schedule"),
        ({"Schedule": "cron(* * * * * *)"}, "Invalid schedule expression"),
        ({"Schedule": "at(2020-01-01T00:00:00)"}, "in the future"),
        ({"Timezone": "Mars/Base"}, "time zone"),
        ({"ScalableTargetAction": None}, "MinCapacity"),
        ({"ScalableTargetAction": {"MinCapacity": 3, "MaxCapacity": 2}}, "Maximum capacity"),
        ({"ScalableTargetAction": {"MinCapacity": -1}}, "Minimum capacity"),
        ({"EndTime": datetime(2020, 1, 1, tzinfo=UTC)}, "EndTime"),
        ({"StartTime": datetime(2200, 1, 2, tzinfo=UTC), "EndTime": datetime(2200, 1, 1, tzinfo=UTC)}, "StartTime"),
    ],
)
def test_bad_scheduled_actions_are_named(registered: Any, changes: dict[str, Any], words: str) -> None:
    base = {"Schedule": "rate(1 hour)", "ScalableTargetAction": {"MinCapacity": 2}}
    request = {name: value for name, value in {**base, **changes}.items() if value is not None}
    code, message = refused(registered.put_scheduled_action, **VARIANT, ScheduledActionName="bad", **request)
    assert (code, words in message) == ("ValidationException", True), message


def test_deregistering_takes_all_that_belongs_to_it(registered: Any, cloudwatch: Any) -> None:
    put(registered)
    put(registered, "step", "StepScaling")
    registered.put_scheduled_action(
        **VARIANT, ScheduledActionName="a", Schedule="rate(1 hour)", ScalableTargetAction={"MinCapacity": 2}
    )
    registered.deregister_scalable_target(**VARIANT)
    assert registered.describe_scaling_policies(**OF)["ScalingPolicies"] == []
    assert registered.describe_scheduled_actions(**OF)["ScheduledActions"] == []
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_activities_are_listed_newest_first(registered: Any, store: Store) -> None:
    key = Key.of(VARIANT)
    with store.transaction() as together:
        for n in range(5):
            record(together, key, f"Setting {n}", "because", "Successful", time.time(), StatusMessage="done")
        reasons = [{"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 4}]
        record(together, key, "Attempting", "because", "Failed", time.time(), NotScaledReasons=reasons)
    pages = list(registered.get_paginator("describe_scaling_activities").paginate(
        **VARIANT, PaginationConfig={"PageSize": 2}
    ))  # fmt: skip
    found = [each["Description"] for page in pages for each in page["ScalingActivities"]]
    assert found == [f"Setting {n}" for n in (4, 3, 2, 1, 0)]
    every = registered.describe_scaling_activities(**VARIANT, IncludeNotScaledActivities=True)["ScalingActivities"]
    assert (len(every), every[0]["NotScaledReasons"], every[0]["StatusCode"]) == (6, reasons, "Failed")
    assert registered.describe_scaling_activities(ServiceNamespace="ecs")["ScalingActivities"] == []


def test_tags(registered: Any) -> None:
    (found,) = registered.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    arn = found["ScalableTargetARN"]
    registered.tag_resource(ResourceARN=arn, Tags={"a": "1", "b": "2"})
    registered.untag_resource(ResourceARN=arn, TagKeys=["a", "none"])
    assert registered.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"b": "2"}
    assert refused(registered.tag_resource, ResourceARN=arn, Tags={str(n): "" for n in range(50)})[0] == (
        "TooManyTagsException"
    )
    assert refused(registered.tag_resource, ResourceARN=arn, Tags={"AWS:x": ""})[0] == "ValidationException"
    code, message = refused(registered.register_scalable_target, **VARIANT, Tags={"c": "3"})
    assert (code, "TagResource API" in message) == ("ValidationException", True)
    gone = f"{arn[:-1]}{'0' if arn[-1] != '0' else '1'}"
    for call in (registered.list_tags_for_resource, registered.untag_resource):
        more = {"TagKeys": ["a"]} if call == registered.untag_resource else {}
        assert refused(call, ResourceARN=gone, **more)[0] == "ResourceNotFoundException"


def test_pages_and_filters_that_cannot_be(registered: Any) -> None:
    describe = registered.describe_scalable_targets
    assert refused(describe, ServiceNamespace="sagemaker", NextToken="x")[0] == "InvalidNextTokenException"
    assert refused(describe, ServiceNamespace="sagemaker", MaxResults=51)[0] == "ValidationException"
    assert refused(describe, ServiceNamespace="sagemaker", ScalableDimension=INSTANCES)[0] == "ValidationException"
    for call in (registered.describe_scaling_policies, registered.describe_scheduled_actions,
                 registered.describe_scaling_activities):  # fmt: skip
        assert refused(call, ServiceNamespace="sagemaker", ScalableDimension=INSTANCES)[0] == "ValidationException"
        assert refused(call, ServiceNamespace="sagemaker", NextToken="x")[0] == "InvalidNextTokenException"

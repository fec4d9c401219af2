"""Alarms through boto3, and the controller's look at them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server.controller.alarms import Alarms
from server.metrics.distribution import Distribution
from server.metrics.series import MetricStore, Point
from server.store.store import Store
from tests.control.conftest import ACCOUNT, REGION, client

NOW = int(time.time()) // 60 * 60
ERRORS: dict[str, Any] = {
    "Namespace": "AWS/SageMaker", "MetricName": "Invocation5XXErrors", "Statistic": "Sum", "Period": 60,
    "EvaluationPeriods": 2, "Threshold": 3.0, "ComparisonOperator": "GreaterThanThreshold",
    "Dimensions": [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "v"}],
}  # fmt: skip


@pytest.fixture
def cloudwatch(address: str) -> Iterator[Any]:
    made = client(address, "cloudwatch")
    yield made
    made.close()


def fail(store: Store, start: int, errors: int) -> None:
    named = {"EndpointName": "e", "VariantName": "v"}
    values = Distribution.of([1.0] * errors)
    MetricStore(store.engine, ACCOUNT, REGION).add(
        [Point("AWS/SageMaker", "Invocation5XXErrors", named, "Count", start, 10, f"r{errors}", values)]
    )


def one(cloudwatch: Any, name: str = "errors") -> dict[str, Any]:
    (found,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return dict(found)


def test_an_alarm_follows_its_metric(cloudwatch: Any, store: Store) -> None:
    cloudwatch.put_metric_alarm(AlarmName="errors", AlarmActions=["arn:aws:sns:us-east-1:1:x"], **ERRORS)
    alarm = one(cloudwatch)
    assert alarm["AlarmArn"] == f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"
    assert (alarm["StateValue"], alarm["ActionsEnabled"]) == ("INSUFFICIENT_DATA", True)
    fail(store, NOW, 5)
    fail(store, NOW + 60, 4)
    Alarms(store, lambda: NOW + 140.0).look()
    alarm = one(cloudwatch)
    assert alarm["StateValue"] == "ALARM"
    assert "[4, 5]" in alarm["StateReason"]
    fail(store, NOW + 120, 1)
    Alarms(store, lambda: NOW + 200.0).look()
    assert one(cloudwatch)["StateValue"] == "OK"
    history = cloudwatch.describe_alarm_history(AlarmName="errors", ScanBy="TimestampAscending")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in history] == [
        'Alarm "errors" created', "Alarm updated from INSUFFICIENT_DATA to ALARM", "Alarm updated from ALARM to OK",
    ]  # fmt: skip
    states = cloudwatch.describe_alarm_history(HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    assert len(states) == 2


def test_a_new_rule_keeps_the_state(cloudwatch: Any, store: Store) -> None:
    cloudwatch.put_metric_alarm(AlarmName="errors", **ERRORS)
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="testing", StateReasonData="{}")
    cloudwatch.put_metric_alarm(AlarmName="errors", AlarmDescription="d", **{**ERRORS, "Threshold": 9.0})
    alarm = one(cloudwatch)
    assert (alarm["StateValue"], alarm["Threshold"], alarm["StateReason"]) == ("ALARM", 9.0, "testing")
    cloudwatch.disable_alarm_actions(AlarmNames=["errors", "none"])
    assert one(cloudwatch)["ActionsEnabled"] is False
    cloudwatch.enable_alarm_actions(AlarmNames=["errors"])
    assert one(cloudwatch)["ActionsEnabled"] is True
    assert one(cloudwatch)["StateReason"] == "testing"


def test_alarms_are_listed_found_and_deleted(cloudwatch: Any) -> None:
    for n in range(5):
        cloudwatch.put_metric_alarm(AlarmName=f"errors-{n}", AlarmActions=[f"arn:aws:a:{n}"], **ERRORS)
    cloudwatch.put_metric_alarm(AlarmName="other", **{**ERRORS, "MetricName": "Invocations"})
    pages = list(cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix="errors", PaginationConfig={"PageSize": 2}
    ))  # fmt: skip
    assert [len(page["MetricAlarms"]) for page in pages] == [2, 2, 1]
    by_action = cloudwatch.describe_alarms(ActionPrefix="arn:aws:a:3")["MetricAlarms"]
    assert [alarm["AlarmName"] for alarm in by_action] == ["errors-3"]
    assert cloudwatch.describe_alarms(StateValue="OK")["MetricAlarms"] == []
    assert cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"])["MetricAlarms"] == []
    asked = {"Namespace": "AWS/SageMaker", "Dimensions": ERRORS["Dimensions"]}
    of_metric = cloudwatch.describe_alarms_for_metric(MetricName="Invocations", **asked)["MetricAlarms"]
    assert [alarm["AlarmName"] for alarm in of_metric] == ["other"]
    assert cloudwatch.describe_alarms_for_metric(MetricName="Invocations", Period=120, **asked)["MetricAlarms"] == []
    cloudwatch.delete_alarms(AlarmNames=["errors-0", "none", "other"])
    assert len(cloudwatch.describe_alarms()["MetricAlarms"]) == 4


def test_an_alarm_on_nothing_waits(cloudwatch: Any, store: Store) -> None:
    cloudwatch.put_metric_alarm(AlarmName="quiet", TreatMissingData="notBreaching", **ERRORS)
    cloudwatch.put_metric_alarm(AlarmName="unit", Unit="Seconds", **ERRORS)
    Alarms(store).look()
    assert [one(cloudwatch, name)["StateValue"] for name in ("quiet", "unit")] == ["OK", "INSUFFICIENT_DATA"]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"Metrics": [{"Id": "a", "Expression": "b"}]}, "InvalidParameterValue", "Metrics"),
        ({"Threshold": None}, "MissingParameter", "Threshold"),
        ({"ExtendedStatistic": "p90"}, "InvalidParameterValue", "Statistic"),
        ({"Statistic": None, "ExtendedStatistic": "tm90"}, "InvalidParameterValue", "ExtendedStatistic"),
        ({"Period": 61}, "InvalidParameterValue", "Period"),
        ({"Period": 86400, "EvaluationPeriods": 8}, "InvalidParameterValue", "EvaluationPeriods"),
        ({"DatapointsToAlarm": 3}, "InvalidParameterValue", "DatapointsToAlarm"),
        ({"TreatMissingData": "x"}, "InvalidParameterValue", "TreatMissingData"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "InvalidParameterValue", "ComparisonOperator"),
    ],
)
def test_bad_rules_are_named(cloudwatch: Any, changes: dict[str, Any], code: str, words: str) -> None:
    request = {name: value for name, value in {**ERRORS, **changes}.items() if value is not None}
    with pytest.raises(ClientError) as caught:
        cloudwatch.put_metric_alarm(AlarmName="bad", **request)
    error = caught.value.response["Error"]
    assert (error["Code"], words in error["Message"]) == (code, True)
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_bad_calls_are_named(cloudwatch: Any) -> None:
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("set_alarm_state", {"AlarmName": "none", "StateValue": "OK", "StateReason": "x"}, "ResourceNotFound"),
        ("set_alarm_state", {"AlarmName": "none", "StateValue": "OK", "StateReason": "x", "StateReasonData": "{"},
         "InvalidFormat"),
        ("describe_alarms", {"NextToken": "x"}, "InvalidNextToken"),
        ("describe_alarms", {"AlarmNames": ["a"], "AlarmNamePrefix": "a"}, "InvalidParameterCombination"),
        ("describe_alarm_history", {"NextToken": "x"}, "InvalidNextToken"),
    ]  # fmt: skip
    for operation, request, code in calls:
        with pytest.raises(ClientError) as caught:
            getattr(cloudwatch, operation)(**request)
        assert caught.value.response["Error"]["Code"].removesuffix("Fault") == code

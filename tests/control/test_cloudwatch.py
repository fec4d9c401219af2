"""Metrics through boto3's `cloudwatch` client, in each of the protocols that clients speak."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server.metrics.distribution import Distribution
from server.metrics.series import MetricStore, Point
from server.store.store import Store
from tests.control.conftest import ACCOUNT, REGION, client

DIMENSIONS = [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "v"}]
START = int(time.time()) // 3600 * 3600 - 3600
WINDOW = {"StartTime": datetime.fromtimestamp(START, UTC), "EndTime": datetime.fromtimestamp(START + 3600, UTC)}


@pytest.fixture
def cloudwatch(address: str) -> Iterator[Any]:
    made = client(address, "cloudwatch")
    yield made
    made.close()


@pytest.fixture
def measured(store: Store) -> None:
    """Latencies of 1, 2, ... 600 ms in ten minutes, one a second; an odd one is an error."""
    named = {"EndpointName": "e", "VariantName": "v"}
    latency = [
        Point("AWS/SageMaker", "ModelLatency", named, "Microseconds", START + 10 * n, 10, "r",
              Distribution.of(1e3 * (10 * n + k + 1) for k in range(10)))
        for n in range(60)
    ]  # fmt: skip
    count = [
        Point("AWS/SageMaker", "Invocations", named, "Count", START + 10 * n, 10, "r", Distribution.of([1.0] * 10))
        for n in range(60)
    ]
    MetricStore(store.engine, ACCOUNT, REGION).add(latency + count)


def query(name: str, stat: str, period: int = 60, **more: Any) -> dict[str, Any]:
    metric = {"Namespace": "AWS/SageMaker", "MetricName": name, "Dimensions": DIMENSIONS}
    return {"Id": "q", "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}, **more}


@pytest.mark.usefixtures("measured")
def test_values_of_an_endpoint(cloudwatch: Any) -> None:
    queries = [query("Invocations", "Sum"), {**query("ModelLatency", "p90"), "Id": "slow", "Label": "slowest"}]
    answer = cloudwatch.get_metric_data(MetricDataQueries=queries, ScanBy="TimestampAscending", **WINDOW)
    invocations, slow = answer["MetricDataResults"]
    assert invocations["Values"] == [60.0] * 10
    assert invocations["Timestamps"][0] == WINDOW["StartTime"]
    assert (slow["Id"], slow["Label"], slow["StatusCode"]) == ("slow", "slowest", "Complete")
    assert slow["Values"] == pytest.approx([1e3 * (60 * n + 54) for n in range(10)], rel=0.02)


@pytest.mark.usefixtures("measured")
def test_pages_of_values(cloudwatch: Any) -> None:
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=[query("Invocations", "Sum", 10), {**query("Invocations", "Sum", 300), "Id": "r"}],
        MaxDatapoints=25, **WINDOW,
    )  # fmt: skip
    found = [[result["Values"] for result in page["MetricDataResults"]] for page in pages]
    assert [[len(values) for values in page] for page in found] == [[25, 0], [25, 0], [10, 2]]


@pytest.mark.usefixtures("measured")
def test_statistics_of_an_endpoint(cloudwatch: Any) -> None:
    points = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker", MetricName="ModelLatency", Dimensions=DIMENSIONS, Period=600,
        Statistics=["Average", "Minimum", "Maximum", "SampleCount", "Sum"], **WINDOW,
    )["Datapoints"]  # fmt: skip
    assert sum(point["SampleCount"] for point in points) == 600
    assert min(point["Minimum"] for point in points) == 1e3
    assert max(point["Maximum"] for point in points) == 6e5
    assert {point["Unit"] for point in points} == {"Microseconds"}
    only = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker", MetricName="ModelLatency", Dimensions=DIMENSIONS, Period=3600,
        ExtendedStatistics=["p50"], **WINDOW,
    )["Datapoints"]  # fmt: skip
    assert sum(len(point["ExtendedStatistics"]) for point in only) == len(only) > 0


@pytest.mark.usefixtures("measured")
def test_which_metrics_there_are(cloudwatch: Any) -> None:
    names = [each["MetricName"] for each in cloudwatch.list_metrics(Namespace="AWS/SageMaker")["Metrics"]]
    assert sorted(names) == ["Invocations", "ModelLatency"]
    by_value = cloudwatch.list_metrics(Dimensions=[{"Name": "EndpointName", "Value": "e"}])["Metrics"]
    assert by_value[0]["Dimensions"] == DIMENSIONS
    assert cloudwatch.list_metrics(Dimensions=[{"Name": "EndpointName", "Value": "f"}])["Metrics"] == []
    assert len(cloudwatch.list_metrics(RecentlyActive="PT3H", Dimensions=[{"Name": "VariantName"}])["Metrics"]) == 2


def test_metrics_of_ones_own(cloudwatch: Any) -> None:
    cloudwatch.put_metric_data(
        Namespace="mine",
        MetricData=[
            {"MetricName": "queue", "Value": 3.0, "Unit": "Count"},
            {"MetricName": "queue", "Values": [1.0, 2.0], "Counts": [2.0, 1.0], "Unit": "Count"},
            {"MetricName": "sums", "StatisticValues": {"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2}},
        ],
    )
    now = datetime.now(UTC)
    points = cloudwatch.get_metric_statistics(
        Namespace="mine", MetricName="queue", Period=3600, Statistics=["Sum", "SampleCount"],
        StartTime=now - timedelta(hours=1), EndTime=now + timedelta(hours=1),
    )["Datapoints"]  # fmt: skip
    assert (sum(p["Sum"] for p in points), sum(p["SampleCount"] for p in points)) == (7.0, 4.0)


@pytest.mark.parametrize(
    ("operation", "request_", "code", "field"),
    [
        ("get_metric_data", {"MetricDataQueries": [{"Id": "a", "Expression": "b*2"}], **WINDOW},
         "InvalidParameterValue", "metric math"),
        ("get_metric_data", {"MetricDataQueries": [query("x", "p101")], **WINDOW}, "InvalidParameterValue", "p101"),
        ("get_metric_data", {"MetricDataQueries": [query("x", "Sum", 61)], **WINDOW},
         "InvalidParameterValue", "Period"),
        ("get_metric_data", {"MetricDataQueries": [query("x", "Sum")] * 2, **WINDOW}, "InvalidParameterValue", "Id"),
        ("get_metric_data", {"MetricDataQueries": [query("x", "Sum")], "StartTime": 2, "EndTime": 1},
         "InvalidParameterValue", "StartTime"),
        ("get_metric_data", {"MetricDataQueries": [query("x", "Sum")], "NextToken": "x", **WINDOW},
         "InvalidNextToken", "NextToken"),
        ("get_metric_statistics", {"Namespace": "n", "MetricName": "m", "Period": 60, **WINDOW},
         "MissingParameter", "Statistics"),
        ("get_metric_statistics", {"Namespace": "n", "MetricName": "m", "Period": 1, "Statistics": ["Sum"], **WINDOW},
         "InvalidParameterCombination", "datapoints"),
        ("put_metric_data", {"Namespace": "AWS/SageMaker", "MetricData": [{"MetricName": "m", "Value": 1}]},
         "InvalidParameterValue", "Namespace"),
        ("put_metric_data", {"Namespace": "n", "MetricData": []}, "InvalidParameterValue", "MetricData"),
        ("put_metric_data", {"Namespace": "n", "MetricData": [{"MetricName": "m"}]},
         "InvalidParameterCombination", "Value"),
        ("put_metric_data", {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1, "Timestamp": 1}]},
         "InvalidParameterValue", "Timestamp"),
        ("put_metric_data", {"Namespace": "n", "MetricData": [{"MetricName": "m", "Values": [1, 2], "Counts": [1]}]},
         "InvalidParameterValue", "Counts"),
    ],
)  # fmt: skip
def test_bad_requests_are_named(
    cloudwatch: Any, operation: str, request_: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(cloudwatch, operation)(**request_)
    error = caught.value.response["Error"]
    assert error["Code"].removesuffix("Exception") == code
    assert field in error["Message"]

"""What CloudWatch's and CloudWatch Logs' clients see of requests that were answered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from tests.running.conftest import VISION, Hearth

DIMENSIONS = [{"Name": "EndpointName", "Value": VISION}, {"Name": "VariantName", "Value": "AllTraffic"}]


@pytest.fixture(scope="module")
def watch(hearth: Hearth) -> Iterator[dict[str, Any]]:
    named = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    made = {each: boto3.client(each, endpoint_url=hearth.url, **named) for each in ("cloudwatch", "logs")}
    yield made
    for client in made.values():
        client.close()


def total(cloudwatch: Any, namespace: str, name: str, statistic: str) -> float:
    now = datetime.now(UTC)
    points = cloudwatch.get_metric_statistics(
        Namespace=namespace, MetricName=name, Dimensions=DIMENSIONS, Period=60, Statistics=[statistic],
        StartTime=now - timedelta(hours=1), EndTime=now + timedelta(minutes=1),
    )["Datapoints"]  # fmt: skip
    return float(sum(point[statistic] for point in points))


def test_requests_show_in_metrics_and_logs(hearth: Hearth, runtime: Any, watch: dict[str, Any]) -> None:
    cloudwatch, logs = watch["cloudwatch"], watch["logs"]
    before = total(cloudwatch, "AWS/SageMaker", "Invocations", "Sum")
    ids = []
    for _ in range(3):
        with pytest.raises(runtime.exceptions.ClientError) as caught:
            runtime.invoke_endpoint(EndpointName=VISION, ContentType="image/png", Body=b"no picture")
        ids.append(caught.value.response["ResponseMetadata"]["RequestId"])
    hearth.wait(
        "three more invocations in CloudWatch",
        lambda: total(cloudwatch, "AWS/SageMaker", "Invocations", "Sum") >= before + 3,
    )  # fmt: skip
    assert total(cloudwatch, "AWS/SageMaker", "Invocation4XXErrors", "Sum") >= 3
    assert total(cloudwatch, "AWS/SageMaker", "ModelLatency", "Maximum") > 0
    used = "/aws/sagemaker/Endpoints", "MemoryUtilization", "Sum"
    hearth.wait("memory that the replica uses", lambda: total(cloudwatch, *used))
    group = f"/aws/sagemaker/Endpoints/{VISION}"
    events = logs.filter_log_events(logGroupName=group, filterPattern=" ".join(f'?"{each}"' for each in ids))["events"]
    assert len(events) == 3
    assert {event["logStreamName"].partition("/")[0] for event in events} == {"AllTraffic"}

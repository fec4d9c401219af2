"""Two replicas behind a strategy, with sessions, prompts and a cache, through boto3 and httpx."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from tests.fixtures.pictures import digits
from tests.running.conftest import Hearth, fresh

NAME = "routed"
WAIT = {"Delay": 0.25, "MaxAttempts": 960}
PREFIX = {"PrefixLength": 1024, "ConcurrencyThreshold": 4}
CACHE = {"HEARTH_CACHE": "true", "HEARTH_CACHE_TTL_S": "600"}


@pytest.fixture(scope="module")
def routed(hearth: Hearth) -> Iterator[str]:
    """An endpoint of two prefix-aware replicas that keep their answers."""
    keys = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    sagemaker = boto3.client("sagemaker", endpoint_url=hearth.url, **keys)
    container = {"Image": "hearth/hearth-digits", "Environment": CACHE}
    role = "arn:aws:iam::123456789012:role/r"
    sagemaker.create_model(ModelName=NAME, PrimaryContainer=container, ExecutionRoleArn=role)
    routing = {"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": PREFIX}
    variant = {"VariantName": "V", "ModelName": NAME, "InstanceType": "ml.t2.medium", "InitialInstanceCount": 2}
    sagemaker.create_endpoint_config(
        EndpointConfigName=NAME, ProductionVariants=[{**variant, "RoutingConfig": routing}]
    )
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig=WAIT)
    (described,) = sagemaker.describe_endpoint(EndpointName=NAME)["ProductionVariants"]
    assert described["RoutingConfig"] == routing
    hearth.wait("two replicas", lambda: len(hearth.replicas(NAME)) == 2)
    yield NAME
    sagemaker.delete_endpoint(EndpointName=NAME)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=NAME, WaiterConfig=WAIT)
    sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
    sagemaker.delete_model(ModelName=NAME)
    sagemaker.close()


@pytest.fixture(scope="module")
def runtime(hearth: Hearth, routed: str) -> Any:
    return fresh(hearth)


def ask(runtime: Any, body: bytes, **more: Any) -> tuple[str, bytes]:
    answer = runtime.invoke_endpoint(EndpointName=NAME, ContentType="image/png", Body=body, **more)
    return answer["ResponseMetadata"]["HTTPHeaders"]["x-cache"], answer["Body"].read()


def counted(hearth: Hearth, series: str) -> Counter[str]:
    """The series of the endpoint's replicas by replica, results together."""
    found: Counter[str] = Counter()
    for line in hearth.http.get("/metrics").text.splitlines():
        if line.startswith(f"{series}{{") and f'EndpointName="{NAME}"' in line:
            replica = re.search(r'replica="([^"]+)"', line)
            assert replica is not None
            found[replica[1]] += int(float(line.rpartition(" ")[2]))
    return found


def gained(hearth: Hearth, before: Counter[str]) -> Counter[str]:
    return +(counted(hearth, "Invocations_total") - before)


def test_the_same_picture_is_looked_at_once(hearth: Hearth, routed: str, runtime: Any) -> None:
    pictures = [png for png, _ in digits(6)]
    first = [ask(runtime, png) for png in pictures]
    again = [ask(runtime, png, InferenceId=f"i-{number}") for number, png in enumerate(pictures)]
    assert [said for said, _ in first] == ["miss"] * 6
    assert [said for said, _ in again] == ["hit"] * 6
    assert [body for _, body in first] == [body for _, body in again]
    sent = hearth.http.post(
        f"/endpoints/{NAME}/invocations", content=pictures[0],
        headers={"content-type": "image/png", "cache-control": "no-store"},
    )  # fmt: skip
    assert (sent.headers["x-cache"], sent.content) == ("bypass", first[0][1])
    assert sum(counted(hearth, "hearth_cache_entries").values()) == 6
    assert sum(counted(hearth, "hearth_cache_requests_total").values()) == 13


def test_a_session_stays_with_a_replica(hearth: Hearth, routed: str, runtime: Any) -> None:
    pictures = [png for png, _ in digits(12)]
    before = counted(hearth, "Invocations_total")
    for png in pictures:
        ask(runtime, png, SessionId="s-1")
    assert sorted(gained(hearth, before).values()) == [12]
    (home,) = gained(hearth, before)
    before = counted(hearth, "Invocations_total")
    for png in pictures:
        headers = {"content-type": "image/png", "x-session-id": "s-1"}
        assert hearth.http.post(f"/endpoints/{NAME}/invocations", content=png, headers=headers).status_code == 200
    assert gained(hearth, before) == {home: 12}


def test_bodies_that_begin_alike_meet_at_a_replica(hearth: Hearth, routed: str, runtime: Any) -> None:
    image = base64.b64encode(digits(1)[0][0]).decode()
    before = counted(hearth, "Invocations_total")
    for number in range(8):
        body = f'{{"inputs": "{image}",{" " * 1024}"parameters": {{"top_k": {number % 4 + 1}}}}}'
        answer = runtime.invoke_endpoint(EndpointName=NAME, ContentType="application/json", Body=body)
        expected = "miss" if number < 4 else "hit"
        assert answer["ResponseMetadata"]["HTTPHeaders"]["x-cache"] == expected
    assert list(gained(hearth, before).values()) == [8]


def test_cloudwatch_has_the_hit_rate(hearth: Hearth, routed: str, runtime: Any) -> None:
    keys = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    cloudwatch = boto3.client("cloudwatch", endpoint_url=hearth.url, **keys)
    ask(runtime, digits(1)[0][0])
    dimensions = [{"Name": "EndpointName", "Value": NAME}, {"Name": "VariantName", "Value": "V"}]

    def points() -> list[Any]:
        now = datetime.now(UTC)
        found: list[Any] = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker", MetricName="ResponseCacheHits", Dimensions=dimensions, Period=3600,
            StartTime=now - timedelta(hours=2), EndTime=now + timedelta(hours=1), Statistics=["Average"],
        )["Datapoints"]  # fmt: skip
        return found

    hearth.wait("points of ResponseCacheHits", points)
    assert 0 < points()[0]["Average"] < 1
    cloudwatch.close()

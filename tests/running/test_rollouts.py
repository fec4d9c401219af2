"""Rollouts on the running Hearth under load: every strategy, a controller that dies meanwhile, a rollback by alarm."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest

from tests.running.conftest import Hearth
from tests.running.test_containers import SKLEARN, archive
from tests.running.test_control import TINY, in_service, removed, sagemaker  # noqa: F401 - a fixture
from tests.running.test_faults import ours

NAME = "rollout"
CODE = """
    import os

    def model_fn(model_dir):
        return os.environ["WHO"]

    def transform_fn(model, body, content_type, accept):
        return model, "text/plain"
"""
QUARTER, HALF = ({"Type": "CAPACITY_PERCENT", "Value": value} for value in (25, 50))
ONE = {"Type": "INSTANCE_COUNT", "Value": 1}


def blue_green(kind: str, wait: int, **sizes: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}


CANARY = blue_green("CANARY", 12, CanarySize=QUARTER)
ENDLESS = blue_green("CANARY", 600, CanarySize=QUARTER)
OTHERS = (
    blue_green("LINEAR", 1, LinearStepSize=HALF),
    {"RollingUpdatePolicy": {"MaximumBatchSize": ONE, "WaitIntervalInSeconds": 1}},
    blue_green("ALL_AT_ONCE", 1),
)


def made(hearth: Hearth, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=hearth.url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )


class Load:
    """Clients that ask again and again until told to stop; keeps who answered, or what else came."""

    def __init__(self, hearth: Hearth, clients: int = 3) -> None:
        self._url = f"{hearth.url}/endpoints/{NAME}/invocations"
        self._answers: Counter[str] = Counter()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self) -> None:
        with httpx.Client(timeout=60.0, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    reply = client.post(self._url, content=b"x", headers={"content-type": "text/plain"})
                    answer = reply.text if reply.status_code == 200 else f"{reply.status_code} {reply.text}"
                except httpx.HTTPError as error:
                    answer = type(error).__name__
                with self._lock:
                    self._answers[answer] += 1

    def during(self, seconds: float) -> Counter[str]:
        """Who answers in the next seconds."""
        before = self.so_far()
        time.sleep(seconds)
        return self.so_far() - before

    def so_far(self) -> Counter[str]:
        with self._lock:
            return self._answers.copy()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def endpoint(hearth: Hearth, sagemaker: Any) -> Iterator[Any]:  # noqa: F811
    """SageMaker's client; endpoint, model and configuration `blue` are in service, and so can `green` be."""
    s3 = made(hearth, "s3")
    s3.create_bucket(Bucket=NAME)
    s3.put_object(Bucket=NAME, Key="m.tar.gz", Body=archive("code/inference.py", textwrap.dedent(CODE).encode()))
    for who in ("blue", "green"):
        container = {"Image": SKLEARN, "ModelDataUrl": f"s3://{NAME}/m.tar.gz", "Environment": {"WHO": who}}
        sagemaker.create_model(ModelName=f"{NAME}-{who}", PrimaryContainer=container)
        sagemaker.create_endpoint_config(
            EndpointConfigName=f"{NAME}-{who}",
            ProductionVariants=[
                {"VariantName": "v", "ModelName": f"{NAME}-{who}", **TINY, "InitialInstanceCount": 2}
            ],
        )
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=f"{NAME}-blue")
    in_service(sagemaker, NAME)
    yield sagemaker
    removed(lambda: sagemaker.delete_endpoint(EndpointName=NAME))
    s3.close()


def sides(client: Any) -> tuple[str, str]:
    """Who serves, and who does not."""
    old = client.describe_endpoint(EndpointName=NAME)["EndpointConfigName"].removeprefix(f"{NAME}-")
    return old, {"blue": "green", "green": "blue"}[old]


def baking(hearth: Hearth, client: Any) -> dict[str, Any]:
    """Waits until the canary has its traffic, and gives the endpoint as it is described then."""

    def status() -> bool:
        (variant,) = client.describe_endpoint(EndpointName=NAME)["PendingDeploymentSummary"]["ProductionVariants"]
        return bool(variant["VariantStatus"][0]["Status"] == "Baking")

    hearth.wait("the canary bakes", status)
    found: dict[str, Any] = client.describe_endpoint(EndpointName=NAME)
    return found


def test_a_canary_under_load_fails_no_request_even_when_the_controller_dies(hearth: Hearth, endpoint: Any) -> None:
    with Load(hearth) as load:
        hearth.wait("blue answers", lambda: load.so_far()["blue"] > 20)
        endpoint.update_endpoint(EndpointName=NAME, EndpointConfigName=f"{NAME}-green", DeploymentConfig=CANARY)
        found = baking(hearth, endpoint)
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", f"{NAME}-blue")
        assert found["PendingDeploymentSummary"]["EndpointConfigName"] == f"{NAME}-green"
        hearth.wait("the edge knows", lambda: load.so_far()["green"] > 0)
        answered = load.during(3)
        assert answered["green"] / answered.total() == pytest.approx(0.25, abs=0.05), answered
        os.kill(ours(hearth, "server.controller").pid, signal.SIGKILL)
        after = in_service(endpoint, NAME)
        assert after["EndpointConfigName"] == f"{NAME}-green"
        assert after["LastDeploymentConfig"] == CANARY
        assert "PendingDeploymentSummary" not in after
        assert set(load.during(1)) == {"green"}
        everything = load.so_far()
    assert set(everything) == {"blue", "green"}, everything


@pytest.mark.long
def test_every_other_strategy_under_load_fails_no_request(hearth: Hearth, endpoint: Any) -> None:
    with Load(hearth) as load:
        for deployment in OTHERS:
            old, new = sides(endpoint)
            hearth.wait(f"{old} answers", lambda who=old: load.so_far()[who] > 20)  # type: ignore[misc]
            endpoint.update_endpoint(EndpointName=NAME, EndpointConfigName=f"{NAME}-{new}", DeploymentConfig=deployment)
            assert in_service(endpoint, NAME)["EndpointConfigName"] == f"{NAME}-{new}"
            hearth.wait("two replicas are left", lambda: len(hearth.replicas(NAME)) == 2)
            assert set(load.during(0.5)) == {new}
        everything = load.so_far()
    assert set(everything) == {"blue", "green"}, everything


def test_an_alarm_under_load_brings_the_old_back_and_fails_no_request(hearth: Hearth, endpoint: Any) -> None:
    old, new = sides(endpoint)
    cloudwatch = made(hearth, "cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="too-many-errors", Namespace="AWS/SageMaker", MetricName="Invocation5XXErrors", Statistic="Sum",
        Period=60, EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
        Dimensions=[{"Name": "EndpointName", "Value": NAME}, {"Name": "VariantName", "Value": "v"}],
    )  # fmt: skip
    watched = {**ENDLESS, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "too-many-errors"}]}}
    with Load(hearth) as load:
        hearth.wait(f"{old} answers", lambda: load.so_far()[old] > 20)
        endpoint.update_endpoint(EndpointName=NAME, EndpointConfigName=f"{NAME}-{new}", DeploymentConfig=watched)
        baking(hearth, endpoint)
        hearth.wait("the canary answers", lambda: load.so_far()[new] > 20)
        cloudwatch.set_alarm_state(AlarmName="too-many-errors", StateValue="ALARM", StateReason="a test")
        after = in_service(endpoint, NAME)
        assert after["EndpointConfigName"] == f"{NAME}-{old}"
        assert "alarm too-many-errors is in ALARM" in after["FailureReason"]
        hearth.wait("the canary is gone", lambda: len(hearth.replicas(NAME)) == 2)
        assert set(load.during(1)) == {old}
        everything = load.so_far()
    assert set(everything) == {"blue", "green"}, everything
    cloudwatch.close()

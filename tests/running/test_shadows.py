"""A shadow variant on the running Hearth: it is asked what production is asked, dies, comes back, and is promoted,
and no client notices before it is."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.running.conftest import Hearth
from tests.running.test_containers import SKLEARN, archive
from tests.running.test_control import TINY, in_service, removed, sagemaker  # noqa: F401 - a fixture
from tests.running.test_faults import ours
from tests.running.test_rollouts import made

NAME = "shadowed"
CODE = """
    import json, os

    def model_fn(model_dir):
        return os.environ["WHO"]

    def transform_fn(who, body, content_type, accept):
        number = json.loads(body)["number"]
        return json.dumps([number * 2 + (0.5 if who == "new" and number % 2 else 0)]), "application/json"
"""
ROLE = "arn:aws:iam::123456789012:role/hearth"


class Load:
    """Clients that ask one number after the other; keeps every number with its answer."""

    def __init__(self, hearth: Hearth, clients: int = 3) -> None:
        self.answers: dict[int, tuple[int, str, str]] = {}
        self._url = f"{hearth.url}/endpoints/{NAME}/invocations"
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self) -> None:
        with httpx.Client(timeout=60.0, trust_env=False) as client:
            while not self._stop.is_set():
                with self._lock:
                    number = self._next
                    self._next += 1
                reply = client.post(self._url, json={"number": number})
                variant = reply.headers.get("x-amzn-invoked-production-variant", "")
                with self._lock:
                    self.answers[number] = (reply.status_code, variant, reply.text)

    def count(self) -> int:
        with self._lock:
            return len(self.answers)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert len(self.answers) == self._next  # none broke off


@pytest.fixture(scope="module")
def endpoint(hearth: Hearth, sagemaker: Any) -> Iterator[Any]:  # noqa: F811
    """SageMaker's client; the endpoint is in service, and a model `new` waits to be tried."""
    s3 = made(hearth, "s3")
    s3.create_bucket(Bucket=NAME)
    s3.put_object(Bucket=NAME, Key="m.tar.gz", Body=archive("code/inference.py", textwrap.dedent(CODE).encode()))
    for who in ("old", "new"):
        container = {"Image": SKLEARN, "ModelDataUrl": f"s3://{NAME}/m.tar.gz", "Environment": {"WHO": who}}
        sagemaker.create_model(ModelName=f"{NAME}-{who}", PrimaryContainer=container)
    variant = {"VariantName": "Production", "ModelName": f"{NAME}-old", **TINY}
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    in_service(sagemaker, NAME)
    yield sagemaker
    removed(lambda: sagemaker.delete_endpoint(EndpointName=NAME))
    s3.close()


def report(hearth: Hearth) -> dict[str, Any]:
    (found,) = hearth.http.get(f"/hearth/endpoints/{NAME}/shadow").json()["reports"]
    return dict(found)


def done(found: dict[str, Any]) -> int:
    """Copies of which it is known what became of them."""
    return sum(found[name] for name in ("compared", "dropped", "no_replica", "refused", "timed_out", "failed"))


def shadows(hearth: Hearth) -> list[dict[str, Any]]:
    return [replica for replica in hearth.replicas(NAME) if replica["variant"] == "Shadow"]


def state(client: Any) -> str:
    return str(client.describe_inference_experiment(Name=NAME)["Status"])


def test_an_experiment_with_a_shadow_that_is_killed(hearth: Hearth, endpoint: Any, runtime: Any) -> None:
    both = [
        {"ModelName": f"{NAME}-{who}", "VariantName": name, "InfrastructureConfig": {
            "InfrastructureType": "RealTimeInference",
            "RealTimeInferenceConfig": {"InstanceType": TINY["InstanceType"], "InstanceCount": 1}}}
        for who, name in (("old", "Production"), ("new", "Shadow"))
    ]  # fmt: skip
    with Load(hearth) as load:
        endpoint.create_inference_experiment(
            Name=NAME, Type="ShadowMode", RoleArn=ROLE, EndpointName=NAME, ModelVariants=both,
            ShadowModeConfig={
                "SourceModelVariantName": "Production",
                "ShadowModelVariants": [{"ShadowModelVariantName": "Shadow", "SamplingPercentage": 100}],
            },
            DataStorageConfig={"Destination": f"s3://{NAME}/captured"},
        )  # fmt: skip
        hearth.wait("the experiment runs", lambda: state(endpoint) == "Running")
        hearth.wait("answers are compared", lambda: report(hearth)["compared"] > 20)
        (victim,) = shadows(hearth)
        os.kill(victim["pid"], signal.SIGKILL)
        at = load.count()
        hearth.wait("production answers on", lambda: load.count() > at + 50)
        os.kill(ours(hearth, "server.controller").pid, signal.SIGKILL)
        hearth.wait("another shadow is asked", lambda: any(
            each["pid"] != victim["pid"] and each["requests_total"] > 50 for each in shadows(hearth)
        ))  # fmt: skip
        before = report(hearth)["compared"]
    assert {(status, variant) for status, variant, _ in load.answers.values()} == {(200, "Production")}
    assert all(json.loads(text) == [number * 2] for number, (_, _, text) in load.answers.items())
    hearth.wait("all copies are told of", lambda: done(report(hearth)) == report(hearth)["sampled"])

    found = report(hearth)
    assert found["compared"] >= before
    assert found["experiment"] == NAME
    assert found["sampled"] <= len(load.answers)
    assert found["compared"] == found["status_equal"] == found["answers_compared"]
    assert 0 < found["answers_equal"] < found["compared"]
    assert found["largest_difference"] == 0.5
    assert found["latency"]["ratio"]["p50"] > 0
    hearth.wait(
        "the command shows the same",
        lambda: f"{report(hearth)['compared']} compared" in hearth.cli("shadow", NAME).stdout,
    )
    with pytest.raises(ClientError, match="Shadow was not found") as refused:
        runtime.invoke_endpoint(
            EndpointName=NAME, TargetVariant="Shadow", ContentType="application/json", Body=b'{"number": 1}'
        )
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    captured(hearth)
    counted(hearth, load.count())


def captured(hearth: Hearth) -> None:
    """Differing pairs are in the object store, under both variants' names."""
    s3 = made(hearth, "s3")
    seen: dict[str, dict[str, Any]] = {}
    for variant in ("Production", "Shadow"):
        listed = s3.list_objects_v2(Bucket=NAME, Prefix=f"captured/{NAME}/{variant}/")["Contents"]
        lines = [line for key in listed for line in s3.get_object(Bucket=NAME, Key=key["Key"])["Body"].iter_lines()]
        records = [json.loads(line) for line in lines]
        seen[variant] = {record["eventMetadata"]["eventId"]: record["captureData"] for record in records}
    s3.close()
    assert seen["Production"].keys() == seen["Shadow"].keys()
    for id, record in seen["Production"].items():
        asked = json.loads(record["endpointInput"]["data"])["number"]
        assert asked % 2 == 1
        assert json.loads(record["endpointOutput"]["data"]) == [asked * 2]
        assert json.loads(seen["Shadow"][id]["endpointOutput"]["data"]) == [asked * 2 + 0.5]


def counted(hearth: Hearth, production: int) -> None:
    """CloudWatch counts clients' requests for the production variant, and copies for the shadow alone."""
    cloudwatch = made(hearth, "cloudwatch")

    def invocations(variant: str) -> float:
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker", MetricName="Invocations", Statistics=["Sum"], Period=60,
            StartTime=datetime.now(UTC) - timedelta(hours=1), EndTime=datetime.now(UTC) + timedelta(minutes=1),
            Dimensions=[{"Name": "EndpointName", "Value": NAME}, {"Name": "VariantName", "Value": variant}],
        )  # fmt: skip
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    hearth.wait("production's invocations are counted", lambda: invocations("Production") == production)
    hearth.wait("and the shadow's", lambda: invocations("Shadow") > 0)
    assert invocations("Shadow") <= report(hearth)["sampled"]  # what the killed replica had not told yet is lost
    cloudwatch.close()


def test_a_shadow_is_promoted_under_load(hearth: Hearth, endpoint: Any) -> None:
    (serving,) = shadows(hearth)
    with Load(hearth) as load:
        hearth.wait("there is load", lambda: load.count() > 20)
        endpoint.stop_inference_experiment(
            Name=NAME, ModelVariantActions={"Production": "Remove", "Shadow": "Promote"}, Reason="better"
        )
        hearth.wait("the experiment is over", lambda: state(endpoint) == "Completed")
        at = load.count()
        hearth.wait("the promoted variant answers", lambda: load.count() > at + 50)
    assert {status for status, _, _ in load.answers.values()} == {200}
    assert {variant for _, variant, _ in load.answers.values()} == {"Production", "Shadow"}
    for number, (_, variant, text) in load.answers.items():
        assert json.loads(text) == [number * 2 + (0.5 if variant == "Shadow" and number % 2 else 0)]
    (now,) = shadows(hearth)
    assert now["replica_id"] == serving["replica_id"]
    hearth.wait("production is gone", lambda: len(hearth.replicas(NAME)) == 1)
    found = endpoint.describe_endpoint(EndpointName=NAME)
    assert [variant["VariantName"] for variant in found["ProductionVariants"]] == ["Shadow"]
    assert "ShadowProductionVariants" not in found

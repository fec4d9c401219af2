"""SageMaker's API on the running Hearth: from a model to an endpoint, changed under load, and gone."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.fixtures.pictures import digits
from tests.running.conftest import LLM, ROOT, VISION, Hearth

WAIT = {"Delay": 0.25, "MaxAttempts": 960}
TINY = {"InstanceType": "ml.t2.medium", "InitialInstanceCount": 1}


@pytest.fixture(scope="module")
def sagemaker(hearth: Hearth) -> Iterator[Any]:
    made = boto3.client(
        "sagemaker",
        endpoint_url=hearth.url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}, read_timeout=60),
    )
    yield made
    made.close()


@pytest.fixture
def name(sagemaker: Any) -> Iterator[str]:
    """A name for a model, a configuration and an endpoint; what was made under it is taken away again."""
    chosen = f"t-{uuid.uuid4().hex[:8]}"
    yield chosen
    for each in (chosen, f"{chosen}-2"):
        removed(lambda: sagemaker.delete_endpoint(EndpointName=each))  # noqa: B023 - called at once
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=each, WaiterConfig=WAIT)
        removed(lambda: sagemaker.delete_endpoint_config(EndpointConfigName=each))  # noqa: B023
        removed(lambda: sagemaker.delete_model(ModelName=each))  # noqa: B023


def removed(call: Callable[[], object]) -> None:
    """Calls; what was never made, or is gone already, need not be removed."""
    try:
        call()
    except ClientError as error:
        if "Could not find" not in str(error):
            raise


def make(sagemaker: Any, name: str, *variants: dict[str, Any], image: str = "hearth/hearth-digits") -> None:
    """A model and a configuration of one name; by default one variant on the smallest instance."""
    sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": image})
    wanted = variants or ({"VariantName": "AllTraffic", **TINY},)
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[{"ModelName": name, **variant} for variant in wanted]
    )


def in_service(sagemaker: Any, name: str) -> dict[str, Any]:
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=WAIT)
    found: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
    return found


def invoke(runtime: Any, name: str, **more: Any) -> Any:
    picture, _ = digits(1)[0]
    answer = runtime.invoke_endpoint(EndpointName=name, ContentType="image/png", Body=picture, **more)
    assert json.loads(answer["Body"].read())
    return answer


@contextmanager
def load(call: Callable[[], object]) -> Iterator[list[str]]:
    """Calls without a pause on two threads; gives the list of what went wrong."""
    failures: list[str] = []
    done = threading.Event()
    calls = [0]

    def work() -> None:
        while not done.is_set():
            try:
                call()
                calls[0] += 1
            except Exception as error:  # every kind of failure is counted
                failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield failures
    done.set()
    for thread in threads:
        thread.join(60)
    assert calls[0] > 0


def test_made_invoked_updated_under_load_and_deleted(sagemaker: Any, runtime: Any, hearth: Hearth, name: str) -> None:
    make(sagemaker, name)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=[{"Key": "k", "Value": "v"}])
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
    found = in_service(sagemaker, name)
    (variant,) = found["ProductionVariants"]
    assert variant["DeployedImages"] == [{"SpecifiedImage": "hearth/hearth-digits"}]
    hearth.wait("its replica is counted", lambda: _count(sagemaker, name) == 1)
    assert invoke(runtime, name)["InvokedProductionVariant"] == "AllTraffic"

    sagemaker.create_model(
        ModelName=f"{name}-2",
        PrimaryContainer={"Image": "hearth/hearth-digits", "Environment": {"SECOND": "1"}},
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"{name}-2",
        ProductionVariants=[{"VariantName": "AllTraffic", "ModelName": f"{name}-2", **TINY}],
    )
    before = {replica["revision"] for replica in hearth.replicas(name)}
    with load(lambda: invoke(runtime, name)) as failures:
        sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=f"{name}-2")
        assert in_service(sagemaker, name)["EndpointConfigName"] == f"{name}-2"
        hearth.wait(
            "the old replica is gone", lambda: not before & {r["revision"] for r in hearth.replicas(name)}
        )  # fmt: skip
        time.sleep(1)
    assert failures == []

    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=WAIT)
    with pytest.raises(ClientError, match="not found"):
        invoke(runtime, name)


def _count(sagemaker: Any, name: str) -> int:
    (variant,) = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
    return int(variant.get("CurrentInstanceCount", 0))


def test_weights_move_without_new_replicas(sagemaker: Any, runtime: Any, hearth: Hearth, name: str) -> None:
    variants = [{"VariantName": side, "InitialVariantWeight": weight, **TINY} for side, weight in (("a", 1), ("b", 0))]
    make(sagemaker, name, *variants)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    in_service(sagemaker, name)
    assert {invoke(runtime, name)["InvokedProductionVariant"] for _ in range(20)} == {"a"}
    assert invoke(runtime, name, TargetVariant="b")["InvokedProductionVariant"] == "b"
    before = {replica["replica_id"] for replica in hearth.replicas(name)}
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 0}, {"VariantName": "b", "DesiredWeight": 1},
        ],
    )  # fmt: skip
    in_service(sagemaker, name)
    hearth.wait(
        "traffic moved", lambda: {invoke(runtime, name)["InvokedProductionVariant"] for _ in range(10)} == {"b"}
    )
    assert {replica["replica_id"] for replica in hearth.replicas(name)} == before


def test_serverless_answers_from_zero(sagemaker: Any, runtime: Any, name: str) -> None:
    make(
        sagemaker, name,
        {"VariantName": "v", "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 2}},
    )  # fmt: skip
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    in_service(sagemaker, name)
    assert invoke(runtime, name)


def test_a_model_from_the_object_store(sagemaker: Any, runtime: Any, hearth: Hearth, name: str) -> None:
    s3 = boto3.client(
        "s3", endpoint_url=hearth.url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="digits/model.tar.gz", Body=archive(ROOT / "models" / "weights" / "hearth-digits"))
    s3.close()
    sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={
            "Image": "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference:2.6.0",
            "ModelDataUrl": f"s3://{name}/digits/model.tar.gz",
            "Environment": {"HF_TASK": "image-classification"},
        },
    )
    variant = {"VariantName": "AllTraffic", "ModelName": name, **TINY}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    in_service(sagemaker, name)
    assert invoke(runtime, name)


def archive(folder: Path) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        tar.add(folder, arcname=".")
    return made.getvalue()


def test_an_unknown_image_fails_by_name(sagemaker: Any, name: str) -> None:
    make(sagemaker, name, image="registry.example.com/own:1")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    deadline = time.monotonic() + 120
    while (found := sagemaker.describe_endpoint(EndpointName=name))["EndpointStatus"] == "Creating":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert found["EndpointStatus"] == "Failed"
    assert "registry.example.com/own:1" in found["FailureReason"]
    assert "djl-inference" in found["FailureReason"]


def test_what_the_file_declares_is_shown(sagemaker: Any, hearth: Hearth) -> None:
    names = {e["EndpointName"] for e in sagemaker.list_endpoints(MaxResults=100)["Endpoints"]}
    assert {LLM, VISION} <= names
    found = sagemaker.describe_endpoint(EndpointName=VISION)
    assert found["EndpointStatus"] == "InService"
    assert "EndpointConfigName" not in found
    assert found["ProductionVariants"][0]["DesiredInstanceCount"] == 1
    told = hearth.cli("audit", "find", "--event", "DeployEndpoint", "--resource", VISION, "--json").stdout
    event = json.loads(told.splitlines()[0])
    assert (event["userAgent"], event["userIdentity"]["type"]) == ("hearth.yaml", "Root")

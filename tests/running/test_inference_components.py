"""Inference components on the running Hearth: a base on an endpoint without a model, adapters in its running engine."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from openai import OpenAI

from tests.fixtures.lora import adapter
from tests.running.conftest import PATIENCE_S, Hearth

ENDPOINT, BASE, BUCKET = "shared-endpoint", "python-lm", "adapters"
ROLE = "arn:aws:iam::123456789012:role/hearth"
ENVIRONMENT = {
    "HF_MODEL_ID": "hearth-python-lm", "OPTION_ENABLE_LORA": "true", "OPTION_ENFORCE_EAGER": "true",
    "OPTION_MAX_MODEL_LEN": "512", "VLLM_CPU_KVCACHE_SPACE": "1",
}  # fmt: skip
BODY = json.dumps({"inputs": "def add(", "parameters": {"max_new_tokens": 12, "do_sample": False}})


@pytest.fixture(scope="module")
def clients(hearth: Hearth) -> Iterator[dict[str, Any]]:
    config = Config(retries={"max_attempts": 0}, read_timeout=120)
    made = {
        name: boto3.client(
            name, endpoint_url=hearth.url, region_name="us-east-1", aws_access_key_id="any",
            aws_secret_access_key="any", config=config,
        )
        for name in ("sagemaker", "s3")
    }  # fmt: skip
    yield made
    for client in made.values():
        client.close()


@pytest.fixture(scope="module")
def sagemaker(clients: dict[str, Any]) -> Iterator[Any]:
    """A client whose account has an endpoint with a base component in service."""
    client = clients["sagemaker"]
    clients["s3"].create_bucket(Bucket=BUCKET)
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName=ENDPOINT, ExecutionRoleArn=ROLE, ProductionVariants=[variant])
    client.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
    quickly = {"Delay": 0.25, "MaxAttempts": 960}
    client.get_waiter("endpoint_in_service").wait(EndpointName=ENDPOINT, WaiterConfig=quickly)
    client.create_inference_component(
        InferenceComponentName=BASE, EndpointName=ENDPOINT, VariantName="AllTraffic",
        Specification={
            "Container": {"Image": "djl-inference", "Environment": ENVIRONMENT},
            "ComputeResourceRequirements": {"NumberOfCpuCoresRequired": 0.5, "MinMemoryRequiredInMb": 1024},
        },
        RuntimeConfig={"CopyCount": 1},
    )  # fmt: skip
    assert settled(client, BASE) == ("InService", None)
    yield client
    found = client.list_inference_components(EndpointNameEquals=ENDPOINT, MaxResults=100)["InferenceComponents"]
    names = [each["InferenceComponentName"] for each in found]
    for name in sorted(names, key=lambda name: name == BASE):
        client.delete_inference_component(InferenceComponentName=name)
        gone(client, name)
    client.delete_endpoint(EndpointName=ENDPOINT)
    client.get_waiter("endpoint_deleted").wait(EndpointName=ENDPOINT, WaiterConfig=quickly)


def settled(client: Any, name: str) -> tuple[str, str | None]:
    """Status and reason, once nothing is under way."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = client.describe_inference_component(InferenceComponentName=name)
        if found["InferenceComponentStatus"] in ("InService", "Failed"):
            return found["InferenceComponentStatus"], found.get("FailureReason")
        time.sleep(0.2)
    pytest.fail(f"{name} is still {found['InferenceComponentStatus']}")


def gone(client: Any, name: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            client.describe_inference_component(InferenceComponentName=name)
        except ClientError:
            return
        time.sleep(0.2)
    pytest.fail(f"{name} is still there")


def upload(s3: Any, folder: Path) -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file in folder.iterdir():
            tar.add(file, file.name)
    s3.put_object(Bucket=BUCKET, Key=f"{folder.name}.tar.gz", Body=packed.getvalue())
    return f"s3://{BUCKET}/{folder.name}.tar.gz"


def adapt(client: Any, name: str, url: str) -> tuple[str, str | None]:
    specification = {"BaseInferenceComponentName": BASE, "Container": {"ArtifactUrl": url}}
    client.create_inference_component(
        InferenceComponentName=name, EndpointName=ENDPOINT, Specification=specification
    )  # fmt: skip
    return settled(client, name)


def said(runtime: Any, component: str) -> str:
    answer = runtime.invoke_endpoint(
        EndpointName=ENDPOINT, InferenceComponentName=component, ContentType="application/json", Body=BODY
    )
    (one,) = json.loads(answer["Body"].read())
    return str(one["generated_text"])


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_a_component_is_invoked_by_its_name(sagemaker: Any, runtime: Any) -> None:
    assert said(runtime, BASE)
    asked = {"EndpointName": ENDPOINT, "ContentType": "application/json", "Body": BODY}
    code, words = refused(runtime.invoke_endpoint, **asked)
    assert code == "ValidationError"
    assert words.startswith("Inference Component Name header is required")
    code, words = refused(runtime.invoke_endpoint, InferenceComponentName="nobody", **asked)
    assert (code, "nobody was not found" in words) == ("ValidationError", True)
    code, words = refused(sagemaker.delete_endpoint, EndpointName=ENDPOINT)
    assert (code, "hosts the inference components" in words) == ("ValidationException", True)


def test_adapters_come_and_go_in_the_running_engine(
    hearth: Hearth, clients: dict[str, Any], sagemaker: Any, runtime: Any, tmp_path: Path
) -> None:
    plain, s3 = said(runtime, BASE), clients["s3"]
    before = hearth.replicas(ENDPOINT)
    assert adapt(sagemaker, "first", upload(s3, adapter(tmp_path / "first", seed=1))) == ("InService", None)
    assert adapt(sagemaker, "second", upload(s3, adapter(tmp_path / "second", seed=2))) == ("InService", None)
    first, second = said(runtime, "first"), said(runtime, "second")
    assert len({plain, first, second}) == 3
    assert said(runtime, BASE) == plain
    with ThreadPoolExecutor(8) as pool:  # in one batch, on the rows of which vLLM's own operations mixed them up
        asked = [BASE, "first", BASE, "second"] * 6
        answers = set(zip(asked, pool.map(lambda name: said(runtime, name), asked), strict=True))
    assert answers == {(BASE, plain), ("first", first), ("second", second)}
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName=ENDPOINT, InferenceComponentName="first", ContentType="application/json", Body=BODY
    )
    stream = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]).decode()
    assert json.loads(stream.strip().splitlines()[-1].removeprefix("data:"))["generated_text"] == first
    for address, model in (
        ("/v1", "first"),
        (f"/endpoints/{ENDPOINT}/openai/v1", "first"),
        (f"/endpoints/{ENDPOINT}/inference-components/first/openai/v1", ENDPOINT),
    ):
        with OpenAI(base_url=hearth.url + address, api_key="any", max_retries=0) as openai:
            done = openai.completions.create(model=model, prompt="def add(", max_tokens=12, temperature=0)
            assert (done.model, done.choices[0].text) == ("first", first)

    other = {"Container": {"ArtifactUrl": upload(s3, adapter(tmp_path / "third", seed=3))}}
    sagemaker.update_inference_component(InferenceComponentName="second", Specification=other)
    assert settled(sagemaker, "second") == ("InService", None)
    assert said(runtime, "second") not in (plain, first, second)
    code, words = refused(sagemaker.delete_inference_component, InferenceComponentName=BASE)
    assert (code, "first, second are on it" in words) == ("ValidationException", True)
    for name in ("first", "second"):
        sagemaker.delete_inference_component(InferenceComponentName=name)
        gone(sagemaker, name)
    (after,) = hearth.replicas(ENDPOINT)
    assert [after["replica_id"]] == [replica["replica_id"] for replica in before]
    assert after["adapters"] == {}


def test_a_broken_adapter_fails_and_its_base_goes_on(
    clients: dict[str, Any], sagemaker: Any, runtime: Any, tmp_path: Path
) -> None:
    plain, s3 = said(runtime, BASE), clients["s3"]
    bare = adapter(tmp_path / "bare", seed=1)
    (bare / "adapter_config.json").unlink()
    broken = {
        "large": (adapter(tmp_path / "large", seed=1, rank=64), "LoRA rank 64 is greater than max_lora_rank 16"),
        "foreign": (adapter(tmp_path / "foreign", seed=1, hidden=200), "is 8 x 200, and the model's weight is 384 x"),
        "bare": (bare, "has no adapter_config.json"),
    }
    for name, (folder, words) in broken.items():
        status, reason = adapt(sagemaker, name, upload(s3, folder))
        assert (status, words in str(reason)) == ("Failed", True), reason
    assert said(runtime, BASE) == plain
    for name in broken:
        sagemaker.delete_inference_component(InferenceComponentName=name)
        gone(sagemaker, name)


def test_a_new_copy_has_the_adapters_before_it_is_routed(
    hearth: Hearth, clients: dict[str, Any], sagemaker: Any, runtime: Any, tmp_path: Path
) -> None:
    adapt(sagemaker, "held", upload(clients["s3"], adapter(tmp_path / "held", seed=5)))
    expected = said(runtime, "held")
    scale = sagemaker.update_inference_component_runtime_config
    scale(InferenceComponentName=BASE, DesiredRuntimeConfig={"CopyCount": 2})
    assert settled(sagemaker, BASE) == ("InService", None)
    copies = hearth.replicas(ENDPOINT)
    assert [list(each["adapters"]) for each in copies] == [["held"], ["held"]]
    assert {said(runtime, "held") for _ in range(6)} == {expected}
    scale(InferenceComponentName=BASE, DesiredRuntimeConfig={"CopyCount": 0})
    assert settled(sagemaker, BASE) == ("InService", None)
    assert hearth.replicas(ENDPOINT) == []
    asked = {"EndpointName": ENDPOINT, "ContentType": "application/json", "Body": BODY}
    code, words = refused(runtime.invoke_endpoint, InferenceComponentName="held", **asked)
    assert (code, "has no capacity" in words) == ("ValidationError", True)

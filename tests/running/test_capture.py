"""Data capture on the running Hearth: boto3 asks for it, and reads the files from the account's own bucket."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running.conftest import Hearth
from tests.running.test_containers import SKLEARN, archive
from tests.running.test_control import TINY, WAIT, in_service, removed, sagemaker  # noqa: F401 - a fixture
from tests.running.test_rollouts import made

NAME, ROLE = "captured", "arn:aws:iam::123456789012:role/hearth"
CODE = """
    def model_fn(model_dir):
        return None

    def transform_fn(model, body, content_type, accept):
        return "%d" % sum(float(each) for each in body.split(",")), "text/csv"
"""


@pytest.fixture(scope="module")
def endpoint(hearth: Hearth, sagemaker: Any) -> Iterator[tuple[Any, Any, str]]:  # noqa: F811
    """SageMaker's and S3's clients, and the key's ARN; the endpoint captures all that it is asked."""
    s3, kms = made(hearth, "s3"), made(hearth, "kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    s3.create_bucket(Bucket=NAME)
    s3.put_object(Bucket=NAME, Key="model.tar.gz", Body=archive("code/inference.py", textwrap.dedent(CODE).encode()))
    container = {"Image": SKLEARN, "ModelDataUrl": f"s3://{NAME}/model.tar.gz"}
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {**TINY, "VariantName": "one", "ModelName": NAME}
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 100, "DestinationS3Uri": f"s3://{NAME}/kept",
        "KmsKeyId": key, "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
    }  # fmt: skip
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant], DataCaptureConfig=capture)
    sagemaker.create_endpoint_config(EndpointConfigName=f"{NAME}-not", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    in_service(sagemaker, NAME)
    yield sagemaker, s3, key
    gone(sagemaker)
    for config in (NAME, f"{NAME}-not"):
        sagemaker.delete_endpoint_config(EndpointConfigName=config)
    sagemaker.delete_model(ModelName=NAME)
    s3.close()
    kms.close()


def kept(s3: Any) -> list[dict[str, Any]]:
    found = s3.list_objects_v2(Bucket=NAME, Prefix=f"kept/{NAME}/one/").get("Contents", ())
    bodies = [s3.get_object(Bucket=NAME, Key=each["Key"])["Body"].read() for each in found]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_from_a_request_to_a_file(hearth: Hearth, endpoint: tuple[Any, Any, str], runtime: Any) -> None:
    sagemaker, s3, key = endpoint  # noqa: F811
    shown = sagemaker.describe_endpoint(EndpointName=NAME)["DataCaptureConfig"]
    assert (shown["CaptureStatus"], shown["KmsKeyId"], shown["CurrentSamplingPercentage"]) == ("Started", key, 100)
    answer = runtime.invoke_endpoint(
        EndpointName=NAME, Body=b"1,2,3", ContentType="text/csv", InferenceId="truth-1", CustomAttributes="trace"
    )
    assert answer["Body"].read() == b"6"
    hearth.wait("a file of captured requests", lambda: kept(s3))
    (record,) = kept(s3)
    assert record["captureData"] == {
        "endpointInput": {"observedContentType": "text/csv", "mode": "INPUT", "data": "1,2,3", "encoding": "CSV"},
        "endpointOutput": {"observedContentType": "text/csv", "mode": "OUTPUT", "data": "6", "encoding": "CSV"},
    }
    meta = record["eventMetadata"]
    assert meta["eventId"] == answer["ResponseMetadata"]["RequestId"]
    assert (meta["inferenceId"], meta["customAttributes"]) == ("truth-1", ["trace"])
    (file,) = s3.list_objects_v2(Bucket=NAME, Prefix="kept/")["Contents"]
    head = s3.head_object(Bucket=NAME, Key=file["Key"])
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)


def test_capture_ends_without_another_replica(hearth: Hearth, endpoint: tuple[Any, Any, str]) -> None:
    sagemaker, _, _ = endpoint  # noqa: F811
    (before,) = hearth.replicas(NAME)
    sagemaker.update_endpoint(EndpointName=NAME, EndpointConfigName=f"{NAME}-not")
    in_service(sagemaker, NAME)
    assert "DataCaptureConfig" not in sagemaker.describe_endpoint(EndpointName=NAME)
    (after,) = hearth.replicas(NAME)
    assert after["replica_id"] == before["replica_id"]
    sagemaker.update_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    in_service(sagemaker, NAME)


def test_a_replica_that_ends_writes_what_it_has(hearth: Hearth, endpoint: tuple[Any, Any, str], runtime: Any) -> None:
    sagemaker, s3, _ = endpoint  # noqa: F811
    count = len(kept(s3))

    def captures() -> bool:
        runtime.invoke_endpoint(EndpointName=NAME, Body=b"4,5", ContentType="text/csv")
        return len(kept(s3)) > count

    hearth.wait("capture to be on", captures)
    runtime.invoke_endpoint(EndpointName=NAME, Body=b"40,50", ContentType="text/csv")
    gone(sagemaker)
    hearth.wait("its replica to be gone", lambda: not hearth.replicas(NAME))
    assert "40,50" in {record["captureData"]["endpointInput"]["data"] for record in kept(s3)}


def gone(sagemaker: Any) -> None:  # noqa: F811
    """Deletes the endpoint, if it is there."""
    removed(lambda: sagemaker.delete_endpoint(EndpointName=NAME))
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=NAME, WaiterConfig=WAIT)

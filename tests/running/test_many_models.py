"""Many models behind one endpoint of the running Hearth: uploaded, deployed and asked with boto3."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures import brought
from tests.fixtures.brought import ROWS, csv
from tests.running.conftest import Hearth
from tests.running.test_containers import deployed
from tests.running.test_control import name, sagemaker  # noqa: F401 - fixtures

BUCKET = "crowd"
IMAGE = "sagemaker-scikit-learn:1.2-1"


@pytest.fixture(scope="module")
def s3(hearth: Hearth) -> Iterator[Any]:
    made = boto3.client(
        "s3", endpoint_url=hearth.url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    made.create_bucket(Bucket=BUCKET)
    yield made
    made.close()


@pytest.fixture(scope="module")
def answers(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """Uploads three archives; what each model says of the first rows, by name."""
    from sklearn.dummy import DummyClassifier

    folder = tmp_path_factory.mktemp("models")
    found = {}
    for number, key in enumerate(("one.tar.gz", "two.tar.gz", "team/three.tar.gz")):
        model = DummyClassifier(strategy="constant", constant=number).fit(ROWS, [0, 1, 2] * 66 + [0, 1])
        upload(s3, key, folder, model)
        found[key] = model.predict(ROWS[:3]).tolist()
    return found


def upload(s3: Any, key: str, folder: Path, model: Any) -> None:
    import skops.io

    skops.io.dump(model, folder / "model.skops")
    with tarfile.open(folder / "model.tar.gz", "w:gz") as tar:
        tar.add(folder / "model.skops", "model.skops")
    s3.put_object(Bucket=BUCKET, Key=f"models/{key}", Body=(folder / "model.tar.gz").read_bytes())


def container(**environment: str) -> dict[str, Any]:
    return {
        "Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/", "Environment": environment,
    }  # fmt: skip


def ask(runtime: Any, endpoint: str, model: str | None) -> Any:
    named = {} if model is None else {"TargetModel": model}
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="text/csv", Accept="application/json", Body=csv(ROWS[:3]), **named
    )
    return json.loads(answer["Body"].read())


def refused(runtime: Any, endpoint: str, model: str | None) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        ask(runtime, endpoint, model)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def value(hearth: Hearth, endpoint: str, sample: str) -> float:
    """Of all the endpoint's replicas together."""
    families = text_string_to_metric_families(hearth.http.get("/metrics").text)
    return sum(
        each.value for family in families for each in family.samples
        if each.name == sample and each.labels.get("EndpointName") == endpoint
    )  # fmt: skip


def test_from_the_first_request_to_a_replaced_archive(
    hearth: Hearth, sagemaker: Any, runtime: Any, s3: Any, name: str, answers: dict[str, list[int]],  # noqa: F811
    tmp_path: Path,
) -> None:  # fmt: skip
    deployed(
        sagemaker, name, PrimaryContainer=container(HEARTH_MAX_MODELS="2", HEARTH_MODEL_CHECK_S="0"),
        ExecutionRoleArn="arn:aws:iam::123456789012:role/r",
    )  # fmt: skip
    assert value(hearth, name, "LoadedModelCount") == 0
    with ThreadPoolExecutor(8) as pool:  # cold, and all at once
        for model, answer in answers.items():
            asked = [pool.submit(ask, runtime, name, model) for _ in range(8)]
            assert [each.result() for each in asked] == [answer] * 8
    assert value(hearth, name, "ModelLoadingTime_count") == 3
    assert value(hearth, name, "ModelDownloadingTime_count") == 3
    assert value(hearth, name, "LoadedModelCount") == 2
    assert ask(runtime, name, "one.tar.gz") == answers["one.tar.gz"]  # was evicted; its files were not
    assert value(hearth, name, "ModelLoadingTime_count") == 4
    assert value(hearth, name, "ModelDownloadingTime_count") == 3
    assert value(hearth, name, "ModelCacheHit_total") >= 3 * 7 - 21

    for named, code, message in (
        (None, "ValidationError", "is missing a target model header."),
        ("four.tar.gz", "ValidationError", f"Failed to download model data(bucket: {BUCKET}, key: models/four.tar.gz)"),
        ("../secret.tar.gz", "ValidationError", "is no path of an archive or a folder below the endpoint's prefix"),
    ):
        found = refused(runtime, name, named)
        assert found[0] == code
        assert message in found[1]
    s3.put_object(Bucket=BUCKET, Key="models/broken.tar.gz", Body=b"no archive")
    assert refused(runtime, name, "broken.tar.gz")[0] == "ModelError"
    assert ask(runtime, name, "two.tar.gz") == answers["two.tar.gz"]

    model = brought.scikit(tmp_path)
    upload(s3, "one.tar.gz", tmp_path, model)
    hearth.wait("the new model", lambda: ask(runtime, name, "one.tar.gz") == model.predict(ROWS[:3]).tolist())


def test_two_replicas_and_no_cache(
    hearth: Hearth, sagemaker: Any, runtime: Any, s3: Any, name: str, answers: dict[str, list[int]]  # noqa: F811
) -> None:
    made = {**container(), "MultiModelConfig": {"ModelCacheSetting": "Disabled"}}
    sagemaker.create_model(ModelName=f"{name}-2", PrimaryContainer=made)
    deployed(sagemaker, name, PrimaryContainer=container())
    variant = {
        "VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.t2.medium", "InitialInstanceCount": 2,
    }  # fmt: skip
    sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-2", ProductionVariants=[variant])
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=f"{name}-2")
    hearth.wait("two replicas", lambda: len(hearth.replicas(name)) == 2)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 240})
    for _ in range(5):  # one after another, each model has one home
        for model in ("two.tar.gz", "team/three.tar.gz"):
            assert ask(runtime, name, model) == answers[model]
    assert value(hearth, name, "LoadedModelCount") == 2
    assert value(hearth, name, "hearth_model_cache_misses_total") == 2

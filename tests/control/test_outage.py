"""Calls while the store is gone: an error that SDKs retry, and their retries succeed once it is back."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from server.store import store as stores
from server.store.store import Store, connect
from tests.control.conftest import ACCOUNT, REGION, Shifting

IMAGE = {"Image": "hearth/hearth-digits"}
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/m"
PACKAGE = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/g/1"
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("create_model", {"ModelName": "m", "PrimaryContainer": IMAGE}),
    ("describe_model", {"ModelName": "m"}),
    ("delete_model", {"ModelName": "m"}),
    ("list_models", {}),
    ("describe_endpoint", {"EndpointName": "e"}),
    ("delete_endpoint", {"EndpointName": "e"}),
    ("create_endpoint", {"EndpointName": "e", "EndpointConfigName": "c"}),
    ("update_endpoint", {"EndpointName": "e", "EndpointConfigName": "c"}),
    ("create_model_package", {"ModelPackageGroupName": "g"}),
    ("update_model_package", {"ModelPackageArn": PACKAGE, "ModelApprovalStatus": "Approved"}),
    ("add_tags", {"ResourceArn": ARN, "Tags": [{"Key": "k", "Value": "v"}]}),
    ("list_tags", {"ResourceArn": ARN}),
    ("search", {"Resource": "ModelPackage"}),
)


@pytest.fixture
def nowhere(listening: tuple[str, Shifting], tmp_path: Path) -> Iterator[None]:
    """A store whose database cannot be opened."""
    listening[1].store = Store(connect(f"sqlite:///{tmp_path}/nowhere/hearth.db"), ACCOUNT, REGION)
    yield
    listening[1].store = None


@pytest.mark.parametrize(("operation", "request_"), CALLS, ids=[name for name, _ in CALLS])
def test_without_a_store_a_call_is_unavailable(
    clients: tuple[Any, Any], nowhere: None, operation: str, request_: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(clients[0], operation)(**request_)
    answer = caught.value.response
    assert answer["Error"]["Code"] == "ServiceUnavailable"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert "The store does not answer" in answer["Error"]["Message"]


@pytest.fixture
def patient(address: str) -> Iterator[Any]:
    """boto3 as users have it, with its retries."""
    made = boto3.client(
        "sagemaker", endpoint_url=address, region_name=REGION, aws_access_key_id="any", aws_secret_access_key="any"
    )
    yield made
    made.close()


def test_boto3_outlives_a_held_store(
    patient: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "LOCK_S", 0.1)
    store.engine.dispose()  # new connections take the bound
    other = sqlite3.connect(tmp_path / "hearth.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    freed = threading.Event()

    def free(**_: Any) -> None:
        if not freed.is_set():
            freed.set()
            other.execute("ROLLBACK")

    patient.meta.events.register("response-received.sagemaker", free)
    answer = patient.create_model(ModelName="m", PrimaryContainer=IMAGE)
    assert answer["ResponseMetadata"]["RetryAttempts"] > 0
    assert [model["ModelName"] for model in patient.list_models()["Models"]] == ["m"]
    other.close()


def test_one_client_token_at_once_makes_one_version(sagemaker: Any) -> None:
    """As when a client gives a call up and sends it again while the first is still under way."""
    sagemaker.create_model_package_group(ModelPackageGroupName="g")
    ready = threading.Barrier(8)

    def register(_: int) -> str:
        ready.wait(10)
        return str(sagemaker.create_model_package(ModelPackageGroupName="g", ClientToken="t")["ModelPackageArn"])

    with ThreadPoolExecutor(8) as pool:
        arns = set(pool.map(register, range(8)))
    assert {arn.rpartition("/")[2] for arn in arns} == {"1"}
    assert len(sagemaker.list_model_packages(ModelPackageGroupName="g")["ModelPackageSummaryList"]) == 1
    second = sagemaker.create_model_package(ModelPackageGroupName="g", ClientToken="other")["ModelPackageArn"]
    assert second.endswith("/2")

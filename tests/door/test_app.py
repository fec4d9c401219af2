"""The door's application: one address for S3, SageMaker, STS and Hearth's own routes."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import uvicorn
from botocore.config import Config

from server.door.app import application
from server.launch import Launch
from server.settings import load
from server.store.migrate import migrate
from server.store.store import Store, connect


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The door's state."""
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[str]:
    """Its address. No controller and no edge run beside it."""
    settings = load(None, {}, state_dir=folder)
    engine = connect(settings.database)
    migrate(engine)
    app = application(Launch(settings, 1, "none"), Store(engine, settings.account, settings.region))
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no delay for TCP by name
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    engine.dispose()


def client(address: str, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=address, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}, read_timeout=20, max_pool_connections=20),
    )  # fmt: skip


def test_s3_has_any_path_when_it_is_signed_for_s3(door: str) -> None:
    s3 = client(door, "s3")
    for bucket in ("models", "first.bucket"):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="endpoints", Body=b"mine")
        assert s3.get_object(Bucket=bucket, Key="endpoints")["Body"].read() == b"mine"
    assert httpx.get(f"{door}/hearth/endpoints", trust_env=False).json() == {"endpoints": []}
    s3.close()


def test_sagemaker_and_sts_at_the_same_address(door: str) -> None:
    sagemaker, sts = client(door, "sagemaker"), client(door, "sts")
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": "hearth/hearth-digits"})
    assert [model["ModelName"] for model in sagemaker.list_models()["Models"]] == ["m"]
    assert sts.get_caller_identity()["Account"] == "123456789012"
    sagemaker.close()
    sts.close()


def test_what_hearth_makes_is_sagemakers_too(door: str) -> None:
    made = httpx.put(f"{door}/hearth/endpoints/mine", json={"model": "hearth-digits"}, trust_env=False)
    assert made.status_code == 202
    sagemaker = client(door, "sagemaker")
    assert sagemaker.describe_endpoint(EndpointName="mine")["EndpointStatus"] == "Creating"
    sagemaker.delete_endpoint(EndpointName="mine")
    shown = httpx.get(f"{door}/hearth/endpoints/mine", trust_env=False).json()
    assert shown["status"] == "Deleting"
    sagemaker.close()


def test_reads_go_on_while_writers_wait_for_the_store(door: str, folder: Path) -> None:
    sagemaker = client(door, "sagemaker")
    held = sqlite3.connect(folder / "hearth.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    image = {"Image": "hearth/hearth-digits"}
    with ThreadPoolExecutor(12) as pool:
        writers = [
            pool.submit(sagemaker.create_model, ModelName=f"waits-{number}", PrimaryContainer=image)
            for number in range(12)
        ]
        time.sleep(0.5)  # most of them wait by now; were reads to wait for them, they would be refused first
        sagemaker.list_endpoints()
        assert httpx.get(f"{door}/hearth/endpoints", trust_env=False, timeout=30).status_code == 200
        assert not any(writer.done() for writer in writers)
        held.execute("ROLLBACK")
        for writer in writers:
            writer.result(60)
    held.close()
    sagemaker.close()

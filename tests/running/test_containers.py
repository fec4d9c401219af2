"""Models of several containers on the running Hearth: uploaded, deployed and asked with boto3; and the events of it."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import textwrap
from collections.abc import Iterator
from typing import Any

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from server.cli.events_view import parse
from tests.fixtures import brought
from tests.fixtures.brought import ROWS
from tests.running.conftest import Hearth
from tests.running.test_control import TINY, in_service, name, sagemaker  # noqa: F401 - fixtures

BUCKET = "pipelines"
SKLEARN = "sagemaker-scikit-learn:1.2-1"

BEFORE = """
    import json, os

    def model_fn(model_dir):
        return None

    def transform_fn(model, body, content_type, accept):
        if body == "pid":
            error = RuntimeError(str(os.getpid()))
            error.status_code = 418
            raise error
        rows = json.loads(body)["rows"]
        return "\\n".join(",".join(map(str, row)) for row in rows), "text/csv"
"""
AFTER = """
    import json, os

    def model_fn(model_dir):
        return os.environ["LABELS"].split(",")

    def transform_fn(model, body, content_type, accept):
        return json.dumps([model[int(value)] for value in json.loads(body)])
"""


@pytest.fixture(scope="module")
def data(hearth: Hearth, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of the uploaded archives, by name; `labels` is what a model alone answers to the first four rows."""
    s3 = boto3.client(
        "s3", endpoint_url=hearth.url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    s3.create_bucket(Bucket=BUCKET)
    folder = tmp_path_factory.mktemp("model")
    model = brought.scikit(folder)
    found = {"labels": json.dumps([("no", "yes")[value] for value in model.predict(ROWS[:4])])}
    skops = (folder / "model.skops").read_bytes()
    for key, path, content in (
        ("before", "code/inference.py", textwrap.dedent(BEFORE).encode()),
        ("model", "model.skops", skops),
        ("after", "code/inference.py", textwrap.dedent(AFTER).encode()),
    ):
        s3.put_object(Bucket=BUCKET, Key=f"{key}.tar.gz", Body=archive(path, content))
        found[key] = f"s3://{BUCKET}/{key}.tar.gz"
    yield found
    s3.close()


def archive(path: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(path)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def containers(data: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"Image": SKLEARN, "ModelDataUrl": data["before"], "ContainerHostname": "before"},
        {"Image": SKLEARN, "ModelDataUrl": data["model"], "ContainerHostname": "model"},
        {"Image": SKLEARN, "ModelDataUrl": data["after"], "ContainerHostname": "after",
         "Environment": {"LABELS": "no,yes"}},
    ]  # fmt: skip


def deployed(sagemaker: Any, name: str, **model: Any) -> None:  # noqa: F811
    sagemaker.create_model(ModelName=name, **model)
    variant = {"VariantName": "AllTraffic", "ModelName": name, **TINY}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    in_service(sagemaker, name)


def ask(runtime: Any, name: str, body: str, **more: Any) -> Any:  # noqa: F811
    answer = runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=body, **more)
    return json.loads(answer["Body"].read())


def answered(runtime: Any, name: str, body: str) -> Any:  # noqa: F811
    """None for a request that a dead worker still got."""
    try:
        return ask(runtime, name, body)
    except ClientError:
        return None


def test_a_pipeline_and_a_worker_of_it_that_is_killed(
    sagemaker: Any, runtime: Any, hearth: Hearth, name: str, data: dict[str, str]  # noqa: F811
) -> None:
    last = hearth.http.get("/hearth/events?last=1").json()["next"]
    deployed(sagemaker, name, Containers=containers(data))
    rows = json.dumps({"rows": ROWS[:4].tolist()})
    labels = json.loads(data["labels"])
    assert ask(runtime, name, rows) == labels
    before = [replica["replica_id"] for replica in hearth.replicas(name)]
    with pytest.raises(ClientError) as caught:
        ask(runtime, name, "pid")
    assert "client error (418) from before with message" in caught.value.response["Error"]["Message"]
    pid = int(json.loads(caught.value.response["OriginalMessage"])["error"].rpartition(" ")[2])
    os.kill(pid, signal.SIGKILL)
    hearth.wait("another worker", lambda: answered(runtime, name, rows) == labels)
    assert not psutil.pid_exists(pid)
    assert [replica["replica_id"] for replica in hearth.replicas(name)] == before

    with hearth.http.stream(
        "GET", f"/hearth/events?after={last}", headers={"accept": "text/event-stream"}
    ) as reply:
        statuses = []
        for found in parse(reply.iter_lines()):
            detail = found["event"]["detail"]
            if detail.get("EndpointName") == name:
                statuses.append(detail["EndpointStatus"])
            if "IN_SERVICE" in statuses:
                break
    assert statuses == ["CREATING", "IN_SERVICE"]
    shown = hearth.cli("events", "--lines", "50")
    assert shown.returncode == 0, shown.stderr
    assert any(name in line and "IN_SERVICE" in line for line in shown.stdout.splitlines())
    journal = hearth.state_dir / "logs" / "controller.log"
    hearth.wait("the journal has it", lambda: f":endpoint/{name}" in journal.read_text())
    assert 'ContainerName="model"' in hearth.http.get("/metrics").text


def test_direct_invocation(
    sagemaker: Any, runtime: Any, name: str, data: dict[str, str]  # noqa: F811
) -> None:
    first, _, last = containers(data)
    deployed(sagemaker, name, Containers=[first, last], InferenceExecutionConfig={"Mode": "Direct"})
    assert ask(runtime, name, "[1, 0]", TargetContainerHostname="after") == ["yes", "no"]
    with pytest.raises(ClientError, match="from before with message"):
        ask(runtime, name, "{}", TargetContainerHostname="before")
    for more in ({}, {"TargetContainerHostname": "model"}):
        with pytest.raises(ClientError, match="before, after") as caught:
            ask(runtime, name, "[1]", **more)
        assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_a_container_that_does_not_start_is_named(
    sagemaker: Any, hearth: Hearth, name: str, data: dict[str, str]  # noqa: F811
) -> None:
    first, _, last = containers(data)
    del last["Environment"]
    sagemaker.create_model(ModelName=name, Containers=[first, last])
    variant = {"VariantName": "AllTraffic", "ModelName": name, **TINY}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hearth.wait("failed", lambda: sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Failed")
    reason = sagemaker.describe_endpoint(EndpointName=name)["FailureReason"]
    assert "container after: " in reason
    assert "KeyError: 'LABELS'" in reason

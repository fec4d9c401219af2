"""Bring your own model, as a user does: a folder and an archive, deployed by the command line, asked by boto3."""

from __future__ import annotations

import json
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fixtures import brought
from tests.fixtures.brought import ROWS, csv
from tests.running.conftest import Hearth


def deployed(hearth: Hearth, name: str, model: Path, *options: str) -> None:
    done = hearth.cli("deploy", name, "--model", str(model), *options, timeout_s=180)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{hearth.tail()}"


def removed(hearth: Hearth, name: str) -> None:
    assert hearth.cli("delete", name).returncode == 0
    hearth.wait(f"{name} gone", lambda: name not in hearth.endpoints())


def test_a_scikit_learn_folder(hearth: Hearth, runtime: Any, tmp_path: Path) -> None:
    model = brought.scikit(tmp_path / "model")
    deployed(hearth, "byom-sklearn", tmp_path / "model")
    answer = runtime.invoke_endpoint(
        EndpointName="byom-sklearn", ContentType="text/csv", Accept="application/json", Body=csv(ROWS[:5])
    )
    assert json.loads(answer["Body"].read()) == model.predict(ROWS[:5]).tolist()
    assert answer["ContentType"] == "application/json"
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint(EndpointName="byom-sklearn", ContentType="text/csv", Body="1,2")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 400
    removed(hearth, "byom-sklearn")


CODE = """
    import json, os

    def model_fn(model_dir):
        return open(os.path.join(model_dir, "greeting.txt")).read()

    def transform_fn(model, body, content_type, accept):
        if body == "crash":
            os._exit(9)
        return json.dumps([model, body, os.environ["SETTING"]]), "application/json"
"""


def test_an_archive_with_code(hearth: Hearth, runtime: Any, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(textwrap.dedent(CODE))
    (tmp_path / "greeting.txt").write_text("hello")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "code", "code")
        tar.add(tmp_path / "greeting.txt", "greeting.txt")
    deployed(hearth, "byom-code", tmp_path / "model.tar.gz", "--env", "SETTING=on")

    def ask(body: str) -> Any:
        answer = runtime.invoke_endpoint(EndpointName="byom-code", ContentType="application/json", Body=body)
        return json.loads(answer["Body"].read())

    assert ask("[1]") == ["hello", "[1]", "on"]
    before = [replica["replica_id"] for replica in hearth.replicas("byom-code")]
    with pytest.raises(ClientError) as caught:
        ask("crash")
    assert "exited with status 9" in caught.value.response["OriginalMessage"]
    assert ask("[2]") == ["hello", "[2]", "on"]
    assert [replica["replica_id"] for replica in hearth.replicas("byom-code")] == before
    removed(hearth, "byom-code")


def test_a_model_that_cannot_be_served_fails_with_the_reason(hearth: Hearth, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.pkl").write_bytes(b"\x80\x04.")
    done = hearth.cli("deploy", "byom-pickle", "--model", str(tmp_path / "model"), timeout_s=180)
    assert done.returncode == 1
    assert "allow-pickle=true" in done.stderr
    removed(hearth, "byom-pickle")

"""Models in the object store: archives, folders and code by their `s3://` addresses."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.errors import BadRequest
from server.objects.app import application
from server.objects.opening import open_storage
from server.replicas.artifacts import Artifacts
from server.replicas.runtimes import locate, start
from server.settings import Settings
from server.spec import VariantSpec
from tests.objects.serving import Served, client
from tests.objects.serving import settings as stored


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return stored(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def s3(settings: Settings) -> Iterator[Any]:
    served = Served(application(settings))
    made = client(served.url)
    made.create_bucket(Bucket="models")
    yield made
    made.close()
    served.close()


@pytest.fixture
def artifacts(settings: Settings, s3: Any, tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "cache", lambda: open_storage(settings, serves=False))


def packed(**files: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_py", ".py"))
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def test_an_archive_and_a_prefix(artifacts: Artifacts, s3: Any) -> None:
    s3.put_object(Bucket="models", Key="a/model.tar.gz", Body=packed(code__inference_py="A = 1"))
    s3.put_object(Bucket="models", Key="b/model.onnx", Body=b"1")
    s3.put_object(Bucket="models", Key="b/deep/x", Body=b"2")
    archive = locate(VariantSpec(model="s3://models/a/model.tar.gz"), artifacts)
    assert archive.task == "handler"
    assert (Path(archive.source) / "code" / "inference.py").read_text() == "A = 1"
    prefix = locate(VariantSpec(model="s3://models/b/"), artifacts)
    assert prefix.task == "predict"
    assert (Path(prefix.source) / "deep" / "x").read_bytes() == b"2"


def test_what_is_fetched_is_kept_once_for_each_content(artifacts: Artifacts, s3: Any, tmp_path: Path) -> None:
    for content in (b"1", b"1", b"2"):
        s3.put_object(Bucket="models", Key="c/model.onnx", Body=content)
        assert (artifacts.folder("s3://models/c/") / "model.onnx").read_bytes() == content
    assert len(list((tmp_path / "cache" / "objects").iterdir())) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["objects"]


@pytest.mark.parametrize(
    ("address", "said"),
    [("s3://models/none/model.tar.gz", "no object"), ("s3://nowhere-at-all/x", "bucket"), ("s3:///x", "BUCKET/KEY")],
)
def test_what_is_not_there_is_named(address: str, said: str, artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        locate(VariantSpec(model=address), artifacts)
    assert address in caught.value.message
    assert not list((tmp_path / "cache").iterdir())


async def test_code_that_lies_elsewhere(artifacts: Artifacts, s3: Any) -> None:
    """As the SDK's scikit-learn models have it: the code is no part of the model's archive."""
    from server.dialects.engine import Invocation

    code = "from pathlib import Path\ndef model_fn(d): return lambda x: Path(d, 'weights').read_text()"
    s3.put_object(Bucket="models", Key="d/model.tar.gz", Body=packed(weights="7"))
    s3.put_object(Bucket="models", Key="d/sourcedir.tar.gz", Body=packed(serve_py=code))
    env = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": "s3://models/d/sourcedir.tar.gz"}
    runtime = await start("m", VariantSpec(model="s3://models/d/model.tar.gz", env=env), artifacts)
    try:
        assert runtime.engines.payload is not None
        answer = await runtime.engines.payload.invoke(Invocation(b"[1]", "application/json", "", {}, "r"))
        assert answer.body == b'"7"'
    finally:
        await runtime.stop()

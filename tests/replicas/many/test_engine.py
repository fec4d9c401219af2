"""Many models in one replica's whole application: real models, real files, the object store of a Hearth."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.errors import BadRequest
from server.objects.app import application
from server.objects.opening import open_storage
from server.replicas.artifacts import Artifacts
from server.replicas.many.disk import _claim
from server.replicas.many.engine import ManyEngine
from server.spec import ContainerSpec, VariantSpec
from tests.fixtures.brought import ROWS, Client, client_of, csv, onnx, scikit
from tests.objects.serving import Served, settings
from tests.objects.serving import client as s3_client

BODY = csv(ROWS[:3])


def many(folder: Path, **engine: Any) -> VariantSpec:
    return VariantSpec(model=str(folder), many="Enabled", engine={"model-check-s": 0, **engine})


async def ask(client: httpx.AsyncClient, model: str | None, body: str = BODY) -> httpx.Response:
    named = {} if model is None else {"X-Amzn-SageMaker-Target-Model": model}
    headers = {"content-type": "text/csv", "accept": "application/json", **named}
    return await client.post("/endpoints/m/invocations", content=body, headers=headers)


def engine(client: Client) -> ManyEngine:
    found = client.runtime.engines.payload
    assert isinstance(found, ManyEngine)
    return found


def archive(file: Path, **files: bytes) -> Path:
    """An archive at `file`; in names `_` stands for a dot."""
    with tarfile.open(file, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", ".").replace("-", "/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


CODE = """
    import json, os
    from pathlib import Path

    def model_fn(model_dir):
        if os.environ.get("FAIL"):
            raise RuntimeError("no weights")
        return (Path(model_dir) / "greeting.txt").read_text()

    def transform_fn(model, body, content_type, accept, context):
        if body in ("stream", b"stream"):
            return (part for part in model), "text/plain"
        target = context.get_request_header(0, "x-amzn-sagemaker-target-model")
        return json.dumps([model, os.getpid(), target, os.environ["SAGEMAKER_MULTI_MODEL"]]), "application/json"
"""


def code(folder: Path, greeting: str = "hello") -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(textwrap.dedent(CODE))
    (folder / "greeting.txt").write_text(greeting)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with models of several formats and makers."""
    folder = tmp_path / "models"
    folder.mkdir()
    scikit(folder / "trees")
    onnx(folder / "graph")
    archive(folder / "packed.tar.gz", model_skops=(folder / "trees" / "model.skops").read_bytes())
    (folder / "team").mkdir()
    shutil.copy(folder / "graph" / "model.onnx", folder / "team" / "alone.onnx")
    return folder


async def test_each_request_names_its_model(models: Path, tmp_path: Path) -> None:
    expected = scikit(tmp_path / "again").predict(ROWS[:3]).tolist()
    async with client_of(many(models), tmp_path / "cache") as client:
        for name in ("trees", "graph", "packed.tar.gz", "team/alone.onnx", "trees/"):
            assert (await ask(client, name)).json() == expected
        assert engine(client).loaded == ["graph", "packed.tar.gz", "team/alone.onnx", "trees"]
        text = (await client.get("/metrics")).text
        assert "LoadedModelCount{" in text
        kept = list((tmp_path / "cache" / "many").iterdir())
        assert sorted(path.suffix for path in kept) == ["", ".lock"]
    assert not list((tmp_path / "cache" / "many").iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "is missing a target model header."),
        ("absent.tar.gz", "Failed to download model data of absent.tar.gz. Please ensure that there is an object"),
        ("../models/trees", "is no path of an archive or a folder below the endpoint's prefix"),
        ("/etc/passwd", "is no path of an archive"),
        ("trees/../graph", "is no path of an archive"),
        ("trees//model.skops", "is no path of an archive"),
        ("./trees", "is no path of an archive"),
        ("trees\\model.skops", "is no path of an archive"),
        ("x" * 256, "is no path of an archive"),
        ("x" * 1025, "1025 characters; 1 to 1024 are allowed"),
        ("outside", "Failed to download model data of outside"),
    ],
    ids=["none", "absent", "above", "absolute", "inside", "empty", "here", "backslash", "part", "long", "link"],
)
async def test_names_that_are_none(models: Path, tmp_path: Path, model: str | None, message: str) -> None:
    scikit(tmp_path / "secret")
    (models / "outside").symlink_to(tmp_path / "secret")
    async with client_of(many(models), tmp_path / "cache") as client:
        answer = await ask(client, model)
        assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
        assert message in answer.json()["Message"]
        assert str(tmp_path) not in answer.text
        assert engine(client).loaded == []


async def test_what_is_no_model_is_a_model_error_that_names_no_place_of_this_machine(
    models: Path, tmp_path: Path
) -> None:
    (models / "broken").mkdir()
    (models / "broken" / "model.onnx").write_bytes(b"no graph")
    archive(models / "empty.tar.gz", notes_txt=b"nothing")
    archive(models / "evil.tar.gz", **{"--evil": b"out"})
    (models / "pickle").mkdir()
    (models / "pickle" / "model.pkl").write_bytes(b"\x80\x04.")
    async with client_of(many(models, **{"max-models": 1}), tmp_path / "cache") as client:
        await ask(client, "trees")
        for name, words in (
            ("empty.tar.gz", "holds no model that can be served. Found: notes.txt"),
            ("evil.tar.gz", "lies outside the archive"),
        ):
            answer = await ask(client, name)
            assert (answer.status_code, answer.json()["OriginalStatusCode"]) == (424, 500)
            assert f"model {name} could not be loaded" in answer.json()["OriginalMessage"]
            assert words in answer.json()["OriginalMessage"]
            assert engine(client).loaded == ["trees"]
        for name in ("broken", "pickle"):
            answer = await ask(client, name)
            assert answer.status_code == 424
            assert str(tmp_path) not in answer.text
        assert (await ask(client, "trees")).status_code == 200


async def test_a_replaced_archive_and_one_that_is_gone(models: Path, tmp_path: Path) -> None:
    code(models / "greeter")
    packed = archive(
        tmp_path / "new.tar.gz", **{"code-inference_py": textwrap.dedent(CODE).encode(), "greeting_txt": b"good day"}
    )
    shutil.copy(packed, models / "swapped.tar.gz")
    async with client_of(many(models), tmp_path / "cache") as client:
        assert (await ask(client, "greeter")).json()[0] == "hello"
        (models / "greeter" / "greeting.txt").write_text("good morning")
        await until(client, "greeter", lambda answer: answer.json()[0] == "good morning")
        assert (await ask(client, "swapped.tar.gz")).json()[0] == "good day"
        (models / "swapped.tar.gz").unlink()
        await until(client, "swapped.tar.gz", lambda answer: answer.status_code == 400)


async def until(client: Client, name: str, wanted: Callable[[httpx.Response], bool]) -> None:
    """Asks until the change was found out, which takes a request or two."""
    for _ in range(1000):
        if wanted(await ask(client, name)):
            return
    pytest.fail("the change was not found out")


async def test_code_runs_in_processes_of_its_own_which_count_and_end(models: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        code(models / name, name)
    async with client_of(many(models, **{"max-models": 1, "workers": 2}), tmp_path / "cache") as client:
        greeting, pid, target, multi = (await ask(client, "one")).json()
        assert (greeting, target, multi) == ("one", "one", "true")
        (held,) = engine(client)._shelf._ready.values()
        assert held.bytes > 4 * 2**20
        assert held.loaded is not None
        assert pid in held.loaded.pids
        assert len(held.loaded.pids) == 2
        assert (await ask(client, "two")).json()[0] == "two"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert (await ask(client, "trees")).status_code == 200


async def test_code_that_fails_to_load(models: Path, tmp_path: Path) -> None:
    code(models / "one")
    spec = many(models).model_copy(update={"env": {"FAIL": "1"}})
    async with client_of(spec, tmp_path / "cache") as client:
        answer = await ask(client, "one")
        assert answer.status_code == 424
        assert "no weights" in answer.json()["OriginalMessage"]


async def test_a_model_is_held_until_its_stream_ends(models: Path, tmp_path: Path) -> None:
    code(models / "one")
    async with client_of(many(models), tmp_path / "cache") as client:
        headers = {"content-type": "text/plain", "X-Amzn-SageMaker-Target-Model": "one"}
        path = "/endpoints/m/invocations-response-stream"
        answer = await client.post(path, content="stream", headers=headers)
        assert answer.status_code == 200
        assert answer.content.count(b"PayloadPart") == len("hello")
        (held,) = engine(client)._shelf._ready.values()
        assert held.holds == 0


async def test_memory_that_is_short(models: Path, tmp_path: Path) -> None:
    code(models / "one")
    async with client_of(many(models, **{"model-cache-mb": 8}), tmp_path / "cache") as client:
        answer = await ask(client, "one")
        assert (answer.status_code, answer.json()["OriginalStatusCode"]) == (424, 507)
        assert "all models may have 8 MiB" in answer.json()["OriginalMessage"]


async def test_files_on_disk_are_bounded(models: Path, tmp_path: Path) -> None:
    for number in range(4):
        noise = os.urandom(400_000)
        archive(models / f"{number}.tar.gz", model_skops=(models / "trees" / "model.skops").read_bytes(), x_bin=noise)
    archive(models / "large.tar.gz", x_bin=os.urandom(2**21))
    async with client_of(many(models, **{"model-disk-mb": 1}), tmp_path / "cache") as client:
        for number in (0, 1, 2, 3, 0):
            assert (await ask(client, f"{number}.tar.gz")).status_code == 200
            files = (tmp_path / "cache" / "many").rglob("*")
            assert sum(file.stat().st_size for file in files if file.is_file()) <= 2**20
        answer = await ask(client, "large.tar.gz")
        assert answer.status_code == 424
        assert engine(client).loaded == ["3.tar.gz", "0.tar.gz"]


def test_what_a_lost_replica_left_goes(tmp_path: Path) -> None:
    lost, lock = _claim(tmp_path)
    (lost / "file").write_text("x")
    living, other = _claim(tmp_path)
    assert lost.is_dir()
    lock.close()
    newest, third = _claim(tmp_path)
    assert not lost.exists()
    assert living.is_dir()
    assert newest.is_dir()
    other.close()
    third.close()


async def test_a_prefix_of_the_object_store(models: Path, tmp_path: Path) -> None:
    expected = scikit(tmp_path / "again").predict(ROWS[:3]).tolist()
    (tmp_path / "store").mkdir()
    named = settings(tmp_path / "store")
    served = Served(application(named))
    s3 = s3_client(served.url)
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key="all/packed.tar.gz", Body=(models / "packed.tar.gz").read_bytes())
    s3.put_object(
        Bucket="models", Key="all/team/folder/model.onnx", Body=(models / "graph" / "model.onnx").read_bytes()
    )
    data = Artifacts(tmp_path / "cache", lambda: open_storage(named, serves=False))
    spec = many(models).model_copy(update={"model": "s3://models/all/"})
    async with client_of(spec, tmp_path / "cache", data) as client:
        for name in ("packed.tar.gz", "team/folder"):
            assert (await ask(client, name)).json() == expected
        answer = await ask(client, "nobody.tar.gz")
        assert answer.status_code == 400
        assert "(bucket: models, key: all/nobody.tar.gz)" in answer.json()["Message"]
        await asyncio.to_thread(s3.put_object, Bucket="models", Key="all/packed.tar.gz", Body=b"no archive any more")
        await until(client, "packed.tar.gz", lambda answer: answer.status_code == 424)
    s3.close()
    served.close()


async def test_one_of_a_pipelines_containers(models: Path, tmp_path: Path) -> None:
    after = code(tmp_path / "after")
    (after / "code" / "inference.py").write_text(
        "import json\n"
        "def model_fn(folder): return None\n"
        "def transform_fn(model, body, content_type, accept): return json.dumps({'after': json.loads(body)}), accept\n"
    )
    spec = VariantSpec(
        containers=(
            ContainerSpec(name="many", model=str(models), many="Enabled"), ContainerSpec(name="after", model=str(after))
        )
    )  # fmt: skip
    async with client_of(spec, tmp_path / "cache") as client:
        assert set(json.loads((await ask(client, "trees")).text)) == {"after"}
        assert (await ask(client, None)).json()["Message"].endswith("is missing a target model header.")
        answer = await ask(client, "absent")
        assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    direct = spec.model_copy(update={"mode": "Direct"})
    async with client_of(direct, tmp_path / "cache") as client:
        named = {"X-Amzn-SageMaker-Target-Container-Hostname": "many", "content-type": "text/csv"}
        path = "/endpoints/m/invocations"
        answer = await client.post(path, content=BODY, headers={**named, "X-Amzn-SageMaker-Target-Model": "trees"})
        assert answer.status_code == 200
        assert "missing a target model" in (await client.post(path, content=BODY, headers=named)).text
        named["X-Amzn-SageMaker-Target-Container-Hostname"] = "after"
        assert (await client.post(path, content="1", headers=named)).status_code == 200
        answer = await client.post(path, content="1", headers={**named, "X-Amzn-SageMaker-Target-Model": "trees"})
        assert "does not support target model header" in answer.json()["Message"]


async def test_options_that_are_none(models: Path, tmp_path: Path) -> None:
    for engine, words in (({"max-model": 2}, "option 'max-model' is unknown"), ({"max-models": 0}, "max-models")):
        with pytest.raises(BadRequest, match=words):
            async with client_of(many(models, **engine), tmp_path / "cache"):
                pass
    with pytest.raises(BadRequest, match="is no folder of models"):
        async with client_of(many(models / "nowhere"), tmp_path / "cache"):
            pass

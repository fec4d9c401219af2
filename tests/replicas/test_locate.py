"""Where a model is and what it is for, before anything is loaded."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from server.errors import BadRequest
from server.replicas.runtimes import locate, start
from server.spec import VariantSpec
from tests.fixtures.brought import artifacts


def folder(path: Path, architecture: str) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return str(path)


def test_a_folder_says_its_task(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", "ViTForImageClassification")
    assert locate(VariantSpec(model=model), artifacts(tmp_path)).task == "image-classification"
    assert locate(VariantSpec(model=model, task="embed"), artifacts(tmp_path)).task == "embed"


def test_a_shipped_name_becomes_its_folder(tmp_path: Path) -> None:
    found = locate(VariantSpec(model="hearth-digits"), artifacts(tmp_path))
    assert Path(found.source, "config.json").exists()
    assert found.task == "image-classification"


def test_a_folder_that_does_not_tell_asks_for_the_task(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="say the task") as caught:
        locate(VariantSpec(model=folder(tmp_path / "m", "SomethingElse")), artifacts(tmp_path))
    assert caught.value.field == "task"


@pytest.mark.parametrize("model", ["no-such-model", "./missing/folder"])
def test_an_unknown_model_is_named(model: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=model):
        locate(VariantSpec(model=model), artifacts(tmp_path))


def test_a_hub_that_cannot_be_reached_is_an_error_not_a_guess(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadRequest, match="someone/something"):
        locate(VariantSpec(model="someone/something"), artifacts(tmp_path))


def test_code_and_model_files_say_their_task(tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.mkdir()
    (model / "model.onnx").touch()
    assert locate(VariantSpec(model=str(model)), artifacts(tmp_path)).task == "predict"
    (model / "inference.py").touch()
    assert locate(VariantSpec(model=str(model)), artifacts(tmp_path)).task == "handler"
    (model / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert locate(VariantSpec(model=str(model)), artifacts(tmp_path)).task == "classify"
    (model / "code").mkdir()
    (model / "code" / "inference.py").touch()
    assert locate(VariantSpec(model=str(model)), artifacts(tmp_path)).task == "handler"
    named = VariantSpec(model="hearth-digits", env={"SAGEMAKER_PROGRAM": "serve.py"})
    assert locate(named, artifacts(tmp_path)).task == "handler"


@pytest.mark.parametrize("form", ["w:gz", "w"])
def test_an_archive_is_unpacked_once(form: Literal["w:gz", "w"], tmp_path: Path) -> None:
    folder(tmp_path / "m", "ViTForImageClassification")
    with tarfile.open(tmp_path / "model.tar.gz", form) as tar:
        tar.add(tmp_path / "m", ".")
    spec = VariantSpec(model=str(tmp_path / "model.tar.gz"))
    first, again = locate(spec, artifacts(tmp_path / "cache")), locate(spec, artifacts(tmp_path / "cache"))
    assert first.source == again.source
    assert first.task == "image-classification"
    assert Path(first.source).is_relative_to(tmp_path / "cache" / "models")


def test_an_archive_that_reaches_out_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(BadRequest, match="outside"):
        locate(VariantSpec(model=str(tmp_path / "model.tar.gz")), artifacts(tmp_path / "cache"))


@pytest.mark.parametrize("task", ["predict", "handler"])
async def test_a_hub_id_brings_no_code(task: Literal["predict", "handler"], tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="not the hub's"):
        await start("m", VariantSpec(model="someone/something", task=task), artifacts(tmp_path))

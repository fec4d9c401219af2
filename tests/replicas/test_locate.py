"""Where a model is and what it is for, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.errors import BadRequest
from server.replicas.runtimes import locate
from server.spec import VariantSpec


def folder(path: Path, architecture: str) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return str(path)


def test_a_folder_says_its_task(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", "ViTForImageClassification")
    assert locate(VariantSpec(model=model)).task == "image-classification"
    assert locate(VariantSpec(model=model, task="embed")).task == "embed"


def test_a_shipped_name_becomes_its_folder() -> None:
    found = locate(VariantSpec(model="hearth-digits"))
    assert Path(found.source, "config.json").exists()
    assert found.task == "image-classification"


def test_a_folder_that_does_not_tell_asks_for_the_task(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="say the task") as caught:
        locate(VariantSpec(model=folder(tmp_path / "m", "SomethingElse")))
    assert caught.value.field == "task"


@pytest.mark.parametrize("model", ["no-such-model", "./missing/folder"])
def test_an_unknown_model_is_named(model: str) -> None:
    with pytest.raises(BadRequest, match=model):
        locate(VariantSpec(model=model))


def test_a_hub_that_cannot_be_reached_is_an_error_not_a_guess(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadRequest, match="someone/something"):
        locate(VariantSpec(model="someone/something"))

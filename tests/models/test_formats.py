"""Which framework's model a folder holds, by its files alone."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest

from models.catalogue import infer_task
from models.formats import PickleRefused, UnknownFormat, find_model


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "")
    return file.getvalue()


PICKLE = pickle.dumps({})
KNOWN = {
    "model.skops": (b"", "scikit-learn"),
    "pipeline.ONNX": (b"", "onnx"),
    "any.json": (b' {\n "learner": {}', "xgboost"),
    "model.ubj": (b"{L", "xgboost"),
    "model.bst": (b"{L", "xgboost"),
    "xgboost-model": (b"{L", "xgboost"),
    "model.pt": (zipped("m/constants.pkl"), "pytorch"),
}
PICKLED = {
    "model.joblib": (b"", "scikit-learn"),
    "model.pkl": (PICKLE, "scikit-learn"),
    "xgboost-model": (PICKLE, "xgboost"),
    "model.pth": (zipped("m/data.pkl"), "pytorch"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_files(name: str, tmp_path: Path) -> None:
    content, framework = KNOWN[name]
    (tmp_path / name).write_bytes(content)
    for other, text in (("README.md", ""), ("metadata.json", '{"learner_rate": 1}'), (".hidden.onnx", "")):
        (tmp_path / other).write_text(text)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.onnx").touch()
    found = find_model(tmp_path)
    assert (found.path.name, found.framework, found.pickled) == (name, framework, False)
    assert infer_task(tmp_path) == "predict"


@pytest.mark.parametrize("name", PICKLED)
def test_pickles_need_a_word(name: str, tmp_path: Path) -> None:
    content, framework = PICKLED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PickleRefused, match="HEARTH_ALLOW_PICKLE=1"):
        find_model(tmp_path)
    found = find_model(tmp_path, allow_pickle=True)
    assert (found.framework, found.pickled) == (framework, True)


def test_a_safe_file_goes_before_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(PICKLE)
    (tmp_path / "model.skops").touch()
    assert find_model(tmp_path, allow_pickle=True).path.name == "model.skops"


def test_two_models_need_a_word(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    (tmp_path / "model.skops").touch()
    with pytest.raises(UnknownFormat, match=r"model\.onnx \(onnx\), model\.skops \(scikit-learn\)"):
        find_model(tmp_path)
    assert find_model(tmp_path, "onnx").path.name == "model.onnx"


def test_what_is_there_and_what_is_known_are_listed(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat, match="Found: nothing"):
        find_model(tmp_path)
    (tmp_path / "weights.h5").touch()
    (tmp_path / "code").mkdir()
    with pytest.raises(UnknownFormat, match=r"Found: code/, weights\.h5\. Known: .*\*\.skops"):
        find_model(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UnknownFormat, match=r"add config\.json"):
        find_model(tmp_path)
    assert infer_task(tmp_path) is None

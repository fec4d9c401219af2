"""What a folder of model files is, told by its files: whose format, and whether it brings code of its own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.entry import ModelError

Framework = Literal["scikit-learn", "xgboost", "pytorch", "onnx"]

SUFFIXES: Mapping[str, Framework] = {
    ".skops": "scikit-learn",
    ".onnx": "onnx",
    ".ubj": "xgboost",
    ".bst": "xgboost",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".ts": "pytorch",
}
"""Files that say their format by their names."""
NAMES: Mapping[str, Framework] = {"xgboost-model": "xgboost", "xgboost-model.json": "xgboost"}
PICKLES = (".joblib", ".pkl", ".pickle")
"""Files that run code when they are loaded."""
CODE = Path("code", "inference.py")
"""SageMaker's place for code inside a model archive."""
TOP_LEVEL_CODE = Path("inference.py")

KNOWN = (
    "code/inference.py (SageMaker's contract), *.skops (scikit-learn), *.json, *.ubj, *.bst or xgboost-model "
    "(XGBoost), *.pt or *.pth with TorchScript (PyTorch), *.onnx, a Hugging Face folder with config.json"
)


class UnknownFormat(ModelError):
    """A folder whose files do not say how to serve it, or say more than one thing."""


class PickleRefused(ModelError):
    """A file that runs code when it is loaded, and nobody allowed that."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file that a framework loads. `pickled`: loading it runs whatever its maker put there."""

    path: Path
    framework: Framework
    pickled: bool = False


def find_model(folder: Path, framework: Framework | None = None, *, allow_pickle: bool = False) -> ModelFile:
    """The one model file in `folder`. Raises UnknownFormat where there is none or a choice, PickleRefused."""
    every = [file for file in model_files(folder) if framework in (None, file.framework)]
    found = [file for file in every if not file.pickled] or every
    if len(found) > 1:
        named = ", ".join(f"{file.path.name} ({file.framework})" for file in found)
        raise UnknownFormat(f"{folder} holds several models: {named}. Keep one, or name the framework.")
    if not found:
        raise UnknownFormat(_nothing(folder, framework))
    if found[0].pickled and not allow_pickle:
        raise PickleRefused(
            f"{found[0].path.name} is a pickle: loading it runs code. Save the model as "
            f"{_instead(found[0].framework)}, or, if you trust where it comes from, deploy it with the engine option "
            "allow-pickle=true (or HEARTH_ALLOW_PICKLE=1 in its environment)."
        )
    return found[0]


def model_files(folder: Path) -> Iterator[ModelFile]:
    """Files at the top of `folder` that some framework loads, by name."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and (found := _recognised(path)):
            yield found


def has_code(folder: Path) -> bool:
    """Whether the folder brings code where SageMaker looks for it."""
    return (folder / CODE).is_file()


def _recognised(path: Path) -> ModelFile | None:
    suffix = path.suffix.lower()
    framework = NAMES.get(path.name) or SUFFIXES.get(suffix)
    if framework == "pytorch":
        return ModelFile(path, "pytorch", pickled=not _is_torchscript(path))
    if framework == "xgboost":
        return ModelFile(path, "xgboost", pickled=_is_pickle(path))
    if framework is not None:
        return ModelFile(path, framework)
    if suffix in PICKLES:
        return ModelFile(path, "scikit-learn", pickled=True)
    if suffix == ".json" and _is_xgboost_json(path):
        return ModelFile(path, "xgboost")
    return None


def _beginning(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _is_xgboost_json(path: Path) -> bool:
    """Whether it starts as XGBoost's documents do."""
    text = b"".join(_beginning(path, 256).split())
    return text.startswith(b'{"learner":')


def _is_pickle(path: Path) -> bool:
    """Whether it starts as a pickle does: with the protocol's opcode, or one of protocol 0's."""
    return _beginning(path, 1) in (b"\x80", b"(", b"c", b"]", b"}")


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold constants and code; `torch.save`'s hold a pickle alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _instead(framework: Framework) -> str:
    return {
        "scikit-learn": "skops or ONNX",
        "xgboost": "JSON or UBJ (Booster.save_model)",
        "pytorch": "TorchScript (torch.jit.save) or ONNX, or bring code/inference.py",
        "onnx": "ONNX",
    }[framework]


def _nothing(folder: Path, framework: Framework | None) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "nothing"
    wanted = f"no {framework} model" if framework else "no model that can be served"
    text = f"{folder} holds {wanted}. Found: {listed}. Known: {KNOWN}."
    if any(name.endswith(".safetensors") for name in names):
        text += " Safetensors hold weights without the network: add config.json (Hugging Face) or code/inference.py."
    return text

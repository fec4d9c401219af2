"""Where a customer's code lies: SageMaker's `inference.py` contract in a model's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from server.errors import BadRequest
from server.replicas.artifacts import S3, Artifacts
from server.replicas.options import HandlerOptions

MODEL_DIR = "/opt/ml/model"
"""Where SageMaker unpacks a model; paths below it mean the model's folder."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker runs. `code_dir` comes first on its `sys.path`."""

    model_dir: Path
    code_dir: Path
    file: Path
    requirements: Path | None


def find(folder: Path, options: HandlerOptions, artifacts: Artifacts) -> Program:
    """Raises BadRequest that names the file that is not there."""
    code = _code_dir(folder, options.submit_directory, artifacts)
    file = _inside(code, options.program, "SAGEMAKER_PROGRAM")
    if not file.is_file():
        raise BadRequest(
            f"there is no {file}; "
            "SageMaker's contract wants code/inference.py, or SAGEMAKER_PROGRAM names another file",
            field="model",
        )
    requirements = code / "requirements.txt"
    return Program(folder.resolve(), code, file, requirements if requirements.is_file() else None)


def _code_dir(folder: Path, submit_directory: str | None, artifacts: Artifacts) -> Path:
    if submit_directory is None:
        return (folder / "code" if (folder / "code").is_dir() else folder).resolve()
    field = "env.SAGEMAKER_SUBMIT_DIRECTORY"
    if submit_directory.startswith(S3):
        return artifacts.folder(submit_directory, field).resolve()
    inside = submit_directory.removeprefix(MODEL_DIR).lstrip("/") if submit_directory.startswith(MODEL_DIR) else None
    code = folder / (submit_directory if inside is None else inside)
    if not code.is_dir():
        raise BadRequest(f"SAGEMAKER_SUBMIT_DIRECTORY={submit_directory} is no folder of the model", field=field)
    return code.resolve()


def _inside(folder: Path, name: str, variable: str) -> Path:
    file = (folder / name).resolve()
    if not file.is_relative_to(folder):
        raise BadRequest(f"{variable}={name} lies outside {folder}", field=f"env.{variable}")
    return file

"""The models below a prefix: is there one of a name, which version is it, and its files. Blocking."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from models.artifact import MAX_FILES, is_archive
from server.dialects.target_model import FIELD
from server.errors import BadRequest, HearthError, ModelFailed, NoSuchModel, Unavailable
from server.objects.errors import ObjectError
from server.objects.fetching import Location
from server.replicas.artifacts import S3, Artifacts

ABSENT = ("NoSuchKey", "NoSuchBucket", "AccessDenied", "InvalidArgument")
"""Codes of the object store for what a request must not have asked for; other errors may pass."""


class Prefix:
    """`address` is an ``s3://`` prefix or a folder of this machine. Names are as `target_model.named` gives them."""

    def __init__(self, address: str, artifacts: Artifacts) -> None:
        """Raises BadRequest for a folder that is not there."""
        self._address = address.rstrip("/")
        self._artifacts = artifacts
        self._root = None if address.startswith(S3) else Path(address).expanduser().resolve()
        if self._root is not None and not self._root.is_dir():
            raise BadRequest(f"{address} is no folder of models, and no s3:// prefix", field="model")

    def look(self, name: str) -> str:
        """What tells the present version of a model from another. Raises NoSuchModel, or Unavailable where nobody can
        tell."""
        if self._root is not None:
            return _version(self._inside(name))
        try:
            return self._artifacts.look(f"{self._address}/{name}")
        except ObjectError as error:
            if error.code in ABSENT:
                raise self._absent(name) from None
            raise Unavailable(f"model {name} cannot be looked for: {error.message}") from error

    def fetch(self, name: str, place: Path, most: int) -> Path:
        """The folder of a model's files; what had to be fetched or unpacked lies in `place`, at most `most` bytes.
        Raises NoSuchModel, ModelFailed."""
        artifacts = self._artifacts.within(place, most)
        source = f"{self._address}/{name}" if self._root is None else str(self._inside(name))
        try:
            if self._root is not None and (file := Path(source)).is_file() and not is_archive(file):
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, place / file.name)
                return place
            return artifacts.folder(source)
        except (BadRequest, OSError) as error:
            raise failed(name, error, place) from error

    def _inside(self, name: str) -> Path:
        assert self._root is not None
        found = (self._root / name).resolve()
        if not found.is_relative_to(self._root) or not found.exists():
            raise self._absent(name)
        return found

    def _absent(self, name: str) -> NoSuchModel:
        """In SageMaker's words."""
        if self._root is None:
            where = Location.parse(f"{self._address}/{name}")
            what = f"(bucket: {where.bucket}, key: {where.key})"
        else:
            what = f" of {name}"
        return NoSuchModel(
            f"Failed to download model data{what}. Please ensure that there is an object located at the URL and that "
            "the role passed to CreateModel has permissions to download the object.",
            field=FIELD,
        )


def failed(name: str, error: Exception, *folders: Path) -> ModelFailed:
    """Why a model could not be loaded, without the places of this machine where its files lie."""
    said = error.message if isinstance(error, HearthError) else f"{type(error).__name__}: {error}"
    for folder in folders:
        said = said.replace(str(folder), name)
    return ModelFailed(f"model {name} could not be loaded: {said}")


def _version(path: Path) -> str:
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    digest = hashlib.sha256()
    for file in files[:MAX_FILES]:
        stat = file.stat()
        digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}\n".encode())
    return digest.hexdigest()

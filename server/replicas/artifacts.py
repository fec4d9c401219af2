"""Model data as folders of this machine: archives unpacked, what the object store holds fetched.

Everything is kept under one cache by what it holds, so that replicas of one model share it, and a changed object is
a new folder.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from models.artifact import MAX_BYTES, MAX_FILES, BadArchive, is_archive, unpack
from server.errors import BadRequest
from server.objects.errors import ObjectError
from server.objects.fetching import Limits, fetch, look
from server.objects.storage import Storage

S3 = "s3://"


class Artifacts:
    """Brings model data here. `open_storage` opens the object store, when there is something to fetch."""

    def __init__(
        self, cache: Path, open_storage: Callable[[], Storage], *, environments: Path | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:  # fmt: skip
        """`max_bytes` of one address may be fetched, and unpacked, at most."""
        self._cache = cache
        self._open = open_storage
        self._max_bytes = max_bytes
        self.environments = environments or cache / "environments"
        """Where the environments of customers' code are made."""

    @property
    def cache(self) -> Path:
        return self._cache

    def within(self, cache: Path, max_bytes: int) -> Artifacts:
        """The same, but for a cache of its own; environments are still shared with all others."""
        return Artifacts(cache, self._open, environments=self.environments, max_bytes=max_bytes)

    def look(self, address: str) -> str:
        """What tells the present contents of an ``s3://`` address from others. Blocking. Raises ObjectError."""
        with closing(self._open()) as storage:
            return look(storage, address, Limits(self._max_bytes, MAX_FILES))

    def folder(self, address: str, field: str = "model") -> Path:
        """The folder that `address` means: a path or an ``s3://`` address of a folder or an archive. Blocking.

        Raises BadRequest that names `field` when nothing can be fetched or unpacked.
        """
        try:
            if address.startswith(S3):
                return self._fetched(address)
            path = Path(address)
            return self._unpacked(path) if is_archive(path) else path
        except BadArchive as error:
            raise BadRequest(str(error), field=field) from error
        except ObjectError as error:
            raise BadRequest(f"{address} cannot be fetched: {error.message}", field=field) from error

    def _fetched(self, address: str) -> Path:
        self._cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".fetching-", dir=self._cache))
        try:
            with closing(self._open()) as storage:
                files = fetch(storage, address, temporary / "fetched", Limits(self._max_bytes, MAX_FILES))
            if len(files) == 1 and is_archive(files[0]):
                return self._unpacked(files[0])
            return _kept(temporary / "fetched", self._cache / "objects")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _unpacked(self, archive: Path) -> Path:
        return unpack(archive, self._cache / "models", max_bytes=self._max_bytes)


def _kept(folder: Path, place: Path) -> Path:
    """`folder`, moved to where folders of the same contents lie."""
    place.mkdir(parents=True, exist_ok=True)
    kept = place / _digest(folder)
    if not kept.is_dir():
        try:
            folder.rename(kept)
        except OSError:
            if not kept.is_dir():
                raise
    return kept


def _digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            own = hashlib.file_digest(file, "sha256").digest()
        whole.update(str(path.relative_to(folder)).encode() + b"\0" + own)
    return whole.hexdigest()[:32]

"""Model archives (`model.tar.gz`): unpacked once, safely, into a folder named for what they hold."""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from models.entry import ModelError

MAX_FILES = 100_000
MAX_BYTES = 256 * 1024**3
"""Bounds on what one archive may unpack to."""


class BadArchive(ModelError):
    """An archive that cannot be read, or that reaches out of its folder."""


def is_archive(path: Path) -> bool:
    """Whether `path` is a tar file, compressed or not; reads its beginning only."""
    try:
        return path.is_file() and tarfile.is_tarfile(path)
    except OSError:
        return False


def unpack(archive: Path, cache: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> Path:
    """The folder below `cache` with the contents of `archive`. An archive that was unpacked before is not again.

    Raises BadArchive; nothing is left behind then. Safe beside other processes that unpack the same one.
    """
    folder = cache / _digest(archive)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=cache))
    try:
        _extract(archive, made, max_files, max_bytes)
        made.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _digest(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _extract(archive: Path, into: Path, max_files: int, max_bytes: int) -> None:
    seen = _Seen(archive.name, max_files, max_bytes)
    try:
        with tarfile.open(archive, "r:*") as tar:
            tar.extractall(into, members=_checked(tar, seen), filter="data")
    except tarfile.FilterError as error:
        raise BadArchive(f"{archive.name}: {error}") from None
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise BadArchive(f"{archive.name} cannot be unpacked: {error}") from error
    root = into.resolve()
    for name in seen.links:
        if not (into / name).resolve().is_relative_to(root):
            raise BadArchive(f"{archive.name}: {name} is a link out of the archive")


@dataclass(slots=True)
class _Seen:
    """What has come out of an archive so far."""

    archive: str
    max_files: int
    max_bytes: int
    files: int = 0
    size: int = 0
    links: set[str] = field(default_factory=set)

    def check(self, member: tarfile.TarInfo) -> None:
        name = posixpath.normpath(member.name)
        shown = f"{self.archive}: {member.name[:200]}"
        if name.startswith(("/", "../")) or name == ".." or "\0" in name:
            raise BadArchive(f"{shown} lies outside the archive")
        if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
            raise BadArchive(f"{shown} is neither a file, a folder nor a link")
        if self.links.intersection(_parents(name)):
            raise BadArchive(f"{shown} would be written through a link")
        if member.issym():
            self.links.add(name)
        self.files += 1
        self.size += member.size if member.isfile() else 0
        if self.files > self.max_files:
            raise BadArchive(f"{self.archive} holds more than {self.max_files} files")
        if self.size > self.max_bytes:
            raise BadArchive(f"{self.archive} unpacks to more than {self.max_bytes} bytes")


def _checked(tar: tarfile.TarFile, seen: _Seen) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        seen.check(member)
        yield member


def _parents(name: str) -> Iterator[str]:
    """`name` and every folder above it."""
    while name and name != os.curdir:
        yield name
        name = posixpath.dirname(name)

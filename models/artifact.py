"""Model archives (`model.tar.gz`): unpacked once, safely, into a folder named for what they hold."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import posixpath
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from models.entry import ModelError

MAX_FILES = 100_000
MAX_BYTES = 256 * 1024**3
"""Bounds on what one archive may unpack to."""
MAX_HEADER_BYTES = 1024**2
MAX_HEADERS_BYTES = 256 * 1024**2
"""Bounds on what describes one member, and all of them: it is kept in memory, and a few bytes may unpack to it."""
FREE_BYTES = 1024**3
"""What unpacking leaves free on the disk."""

_COMPRESSIONS: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ\0", lzma))
"""First bytes, and who reads the rest."""


class BadArchive(ModelError):
    """An archive that cannot be read, or that reaches out of its folder."""


def is_archive(path: Path) -> bool:
    """Whether `path` is a tar file, compressed or not; reads its beginning only."""
    try:
        if not path.is_file():
            return False
        with _opened(path):
            return True
    except BadArchive:
        return True
    except _UNREADABLE:
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
    room = max(0, shutil.disk_usage(into).free - FREE_BYTES)
    seen = _Seen(archive.name, max_files, min(max_bytes, room))
    try:
        with _opened(archive) as tar:
            tar.extractall(into, members=_checked(tar, seen), filter="data")
    except BadArchive:
        raise
    except tarfile.FilterError as error:
        raise BadArchive(f"{archive.name}: {error}") from None
    except _UNREADABLE as error:
        raise BadArchive(f"{archive.name} cannot be unpacked: {error}") from error
    root = into.resolve()
    for name in seen.links:
        if not (into / name).resolve().is_relative_to(root):
            raise BadArchive(f"{archive.name}: {name} is a link out of the archive")


_UNREADABLE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError, OverflowError)


class _Tar(tarfile.TarFile):
    """Says to its file when it reads a header."""

    def next(self) -> tarfile.TarInfo | None:
        file = cast(_Metered, self.fileobj)
        with file.header():
            return super().next()


class _Metered:
    """An unpacked tar file that gives no more bytes for headers than the bounds allow."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._headers = 0
        self._header: int | None = None

    @contextlib.contextmanager
    def header(self) -> Iterator[None]:
        self._header = 0
        try:
            yield
        finally:
            self._header = None

    def read(self, size: int = -1) -> bytes:
        if self._header is not None:
            self._header += max(size, 0)
            self._headers += max(size, 0)
            if size < 0 or self._header > MAX_HEADER_BYTES or self._headers > MAX_HEADERS_BYTES:
                raise BadArchive(f"{self._name} has more to say of its files than {MAX_HEADER_BYTES} bytes of one, "
                                 f"{MAX_HEADERS_BYTES} of all")  # fmt: skip
        return self._file.read(size)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """Raises one of `_UNREADABLE`, BadArchive among them."""
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(archive.open("rb"))
        begin = file.read(max(len(magic) for magic, _ in _COMPRESSIONS))
        file.seek(0)
        codec = next((codec for magic, codec in _COMPRESSIONS if begin.startswith(magic)), None)
        if codec is not None:
            file = stack.enter_context(codec.open(file))
        metered = cast(IO[bytes], _Metered(file, archive.name))
        yield stack.enter_context(_Tar(fileobj=metered))


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
            raise BadArchive(f"{self.archive} unpacks to more than {self.max_bytes} bytes, its bound or the disk's")


def _checked(tar: tarfile.TarFile, seen: _Seen) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        seen.check(member)
        yield member


def _parents(name: str) -> Iterator[str]:
    """`name` and every folder above it."""
    while name and name != os.curdir:
        yield name
        name = posixpath.dirname(name)

"""Archives that are small where they lie and large where they go."""

from __future__ import annotations

import bz2
import gzip
import lzma
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import artifact
from models.artifact import BadArchive, is_archive, unpack

MIB = 1024**2
END = b"\0" * 1024
Opener = Callable[[Path, str], Any]


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def bomb(path: Path, opener: Opener, first: bytes, mib: int) -> Path:
    """An archive of `first` and so many MiB of zeros."""
    with opener(path, "wb") as file:
        file.write(first)
        for _ in range(mib):
            file.write(b"\0" * MIB)
        file.write(END)
    return path


@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open], ids=["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_headers_do_not_fill_the_memory(kind: bytes, opener: Opener, tmp_path: Path) -> None:
    """What a header says of the next member, tarfile reads whole."""
    made = bomb(tmp_path / "model.tar", opener, header(kind, 128 * MIB), 128)
    assert made.stat().st_size < MIB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert is_archive(made), "it is one, and refused as one"
    with pytest.raises(BadArchive, match="more to say"):
        unpack(made, tmp_path / "cache")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert not list((tmp_path / "cache").iterdir())


def test_neither_do_many_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "MAX_HEADERS_BYTES", 4 * MIB)
    record = b"comment=" + b"a" * 600_000
    record = b"%d %b\n" % (len(record) + 8, record)
    padded = record + b"\0" * (-len(record) % 512)
    with gzip.open(tmp_path / "model.tar.gz", "wb") as file:
        for number in range(20):
            file.write(header(tarfile.XHDTYPE, len(record)) + padded + header(tarfile.REGTYPE, 0, str(number)))
        file.write(END)
    with pytest.raises(BadArchive, match="more to say"):
        unpack(tmp_path / "model.tar.gz", tmp_path / "cache")


def test_a_sparse_map_without_end(tmp_path: Path) -> None:
    """GNU's sparse format 1.0 keeps a list of numbers in the data: as many as the first of them says."""
    fields = b"GNU.sparse.major=1\n", b"GNU.sparse.minor=0\n", b"GNU.sparse.name=a\n", b"GNU.sparse.realsize=1\n"
    text = b"".join(b"%d %b" % (len(each) + 3, each) for each in fields)
    with gzip.open(tmp_path / "model.tar.gz", "wb") as file:
        file.write(header(tarfile.XHDTYPE, len(text)) + text + b"\0" * (-len(text) % 512))
        file.write(header(tarfile.REGTYPE, 512 * MIB) + b"%d\n" % 10**9)
        file.writelines(b"1\n" * (MIB // 2) for _ in range(64))
        file.write(END)
    began = time.thread_time()
    with pytest.raises(BadArchive):
        unpack(tmp_path / "model.tar.gz", tmp_path / "cache")
    assert time.thread_time() - began < 20


def test_a_file_of_more_bytes_than_the_disk_has(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "model.tar.gz", "wb") as file:
        file.write(header(tarfile.REGTYPE, 2**40))
    with pytest.raises(BadArchive, match="unpacks to more"):
        unpack(tmp_path / "model.tar.gz", tmp_path / "cache", max_bytes=2**60)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    "name", ["a\\..\\..\\evil", "a/\u2025/evil", "a/\uff0e\uff0e/evil", "C:evil", "a/./../b", "a" * 300 + "/evil"]
)
def test_names_that_only_look_like_ways_out(name: str, tmp_path: Path) -> None:
    """Unpacked below the folder, or refused: never elsewhere."""
    with gzip.open(tmp_path / "model.tar.gz", "wb") as file:
        member = tarfile.TarInfo(name)
        file.write(member.tobuf(tarfile.PAX_FORMAT) + END)
    try:
        unpack(tmp_path / "model.tar.gz", tmp_path / "deep" / "cache")
    except BadArchive:
        assert not list((tmp_path / "deep" / "cache").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "model.tar.gz"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"cache"}

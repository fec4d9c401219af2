"""Archives: what is unpacked, and what is refused without a trace."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.artifact import BadArchive, is_archive, unpack


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def file(name: str, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path / "model.tar.gz", "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path / "model.tar.gz"


def test_files_folders_and_links_inside_are_unpacked(tmp_path: Path) -> None:
    hard = link("d", "a/model.bin", tarfile.LNKTYPE)
    made = archive(tmp_path, file("a/model.bin", 5), link("b", "a/model.bin"), link("a/c", "../b"), hard)
    folder = unpack(made, tmp_path / "cache")
    found = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == dict.fromkeys(("model.bin", "b", "c", "d"), b"xxxxx")
    assert is_archive(made)
    assert not is_archive(folder / "b")


OUT = {
    "parent": (file("../evil", 1),),
    "deep parent": (file("a/../../evil", 1),),
    "absolute": (file("/tmp/evil", 1),),
    "link": (link("a", "../../evil"),),
    "absolute link": (link("a", "/etc/passwd"),),
    "hard link": (link("a", "../evil", tarfile.LNKTYPE),),
    "through a link": (link("a", "b"), file("a/evil", 1)),
    "over a link": (link("a", "b"), file("a", 1)),
    "by two links": (link("b/c/d", "../../x"), link("e", "b/c/d/../../.."), file("x/y", 1)),
    "device": (link("a", "", tarfile.CHRTYPE),),
    "pipe": (link("a", "", tarfile.FIFOTYPE),),
}


@pytest.mark.parametrize("members", OUT.values(), ids=OUT.keys())
def test_what_reaches_out_is_refused_and_leaves_nothing(members: tuple[tarfile.TarInfo, ...], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made = archive(tmp_path / "in", file("good", 3), *members)
    with pytest.raises(BadArchive, match=r"model\.tar\.gz"):
        unpack(made, tmp_path / "deep" / "cache")
    assert not list((tmp_path / "deep" / "cache").iterdir())
    assert not list(tmp_path.rglob("evil"))


def test_bounds(tmp_path: Path) -> None:
    made = archive(tmp_path, *(file(str(number), 100) for number in range(10)))
    with pytest.raises(BadArchive, match="more than 9 files"):
        unpack(made, tmp_path / "cache", max_files=9)
    with pytest.raises(BadArchive, match="more than 999 bytes"):
        unpack(made, tmp_path / "cache", max_bytes=999)
    assert len(list(unpack(made, tmp_path / "cache", 10, 1000).iterdir())) == 10


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_part_of_an_archive_is_refused(share: float, tmp_path: Path) -> None:
    whole = archive(tmp_path, *(file(str(number), 1000) for number in range(50))).read_bytes()
    part = tmp_path / "part.tar.gz"
    part.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadArchive, match="cannot be unpacked"):
        unpack(part, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_many_may_unpack_one_archive_at_once(tmp_path: Path) -> None:
    made = archive(tmp_path, *(file(str(number), 10) for number in range(200)))
    with ThreadPoolExecutor(8) as threads:
        folders = set(threads.map(lambda _: unpack(made, tmp_path / "cache"), range(8)))
    assert len(folders) == 1
    assert len(list(folders.pop().iterdir())) == 200
    assert len(list((tmp_path / "cache").iterdir())) == 1

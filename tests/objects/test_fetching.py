"""Objects as files, for Hearth's own parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.objects.errors import ObjectError
from server.objects.fetching import Limits, Location, fetch
from server.objects.storage import Storage
from tests.objects.serving import Served

WIDE = Limits(total_bytes=1000)


@pytest.fixture
def storage(served: Served) -> Storage:
    found: Storage = served.app.storage
    return found


def test_one_object(s3: Any, bucket: str, storage: Storage, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="a/model.tar.gz", Body=b"weights")
    assert fetch(storage, f"s3://{bucket}/a/model.tar.gz", tmp_path / "to", WIDE) == [tmp_path / "to" / "model.tar.gz"]
    assert (tmp_path / "to" / "model.tar.gz").read_bytes() == b"weights"


@pytest.mark.parametrize("tail", ["/m", "/m/", ""])
def test_all_below_a_prefix(s3: Any, bucket: str, storage: Storage, tmp_path: Path, tail: str) -> None:
    for key in ("m/", "m/config.json", "m/deep/er/ü.bin"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    root = "" if tail else "m/"
    found = fetch(storage, f"s3://{bucket}{tail}", tmp_path / "to", WIDE)
    assert [str(path.relative_to(tmp_path / "to")) for path in found] == [
        f"{root}config.json" if root else "config.json", f"{root}deep/er/ü.bin"] if tail == "" else [
        "config.json", "deep/er/ü.bin"]  # fmt: skip
    assert all(path.read_bytes().startswith(b"m/") for path in found)


@pytest.mark.parametrize("served", ["local"], indirect=True)
def test_more_than_a_page(s3: Any, bucket: str, storage: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="p/one", Body=b"x")
    index = storage.index
    one = index.get(bucket, "p/one")  # encrypted, so it opens under this key only
    one = replace(one, details=replace(one.details, encryption={}), inline=b"x")
    with index.change():  # a thousand more
        for number in range(1000):
            index.put(replace(one, key=f"p/{number}"))
    assert len(fetch(storage, f"s3://{bucket}/p", tmp_path / "to", Limits(1001))) == 1001
    with pytest.raises(ObjectError, match="more than 11") as caught:
        fetch(storage, f"s3://{bucket}/p", tmp_path / "few", Limits(1000, files=11))
    assert caught.value.code == "EntityTooLarge"


@pytest.mark.parametrize("key", ["m/../../escape", "m//x", "m/./x", "m/nul\0l"])
def test_keys_that_would_leave_the_folder(s3: Any, bucket: str, storage: Storage, tmp_path: Path, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    with pytest.raises(ObjectError) as caught:
        fetch(storage, f"s3://{bucket}/m/", tmp_path / "to", WIDE)
    assert caught.value.code == "InvalidArgument"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_fetched(s3: Any, bucket: str, storage: Storage, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="large", Body=bytes(1001))
    s3.put_object(Bucket=bucket, Key="both", Body=b"")
    s3.put_object(Bucket=bucket, Key="both/x", Body=b"")
    refused = {
        f"s3://{bucket}/large": "EntityTooLarge", f"s3://{bucket}/none": "NoSuchKey",
        "s3://no-such-bucket/k": "NoSuchBucket",
        f"s3://{bucket}/none/": "NoSuchKey", "/local/path": "InvalidURI", "s3:///k": "InvalidURI",
    }  # fmt: skip
    for uri, expected in refused.items():
        with pytest.raises(ObjectError) as caught:
            fetch(storage, uri, tmp_path / "to", WIDE)
        assert caught.value.code == expected, uri
    with pytest.raises(ObjectError, match="file and a folder"):
        fetch(storage, f"s3://{bucket}", tmp_path / "to", Limits(5000))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError):
        fetch(storage, f"s3://{bucket}/both", tmp_path / "there", WIDE)


def test_addresses() -> None:
    assert Location.parse("s3://bucket/a/b c") == Location("bucket", "a/b c")
    assert Location.parse("s3://bucket") == Location.parse("s3://bucket/") == Location("bucket", "")

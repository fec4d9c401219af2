"""Objects for Hearth itself: what an ``s3://`` address names, as files in a folder."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from server.objects.errors import ObjectError
from server.objects.operations import MODEL
from server.objects.storage import Content, Storage

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Location:
    """``s3://BUCKET/KEY``; an empty key is the whole bucket."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Location:
        """Raises InvalidURI."""
        match = re.fullmatch(r"s3://([^/]+)(?:/(.*))?", uri, re.DOTALL)
        if match is None:
            raise ObjectError("InvalidURI", f"{uri!r} is not s3://BUCKET/KEY.")
        return cls(match[1], match[2] or "")


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be fetched at most; beyond it, EntityTooLarge."""

    total_bytes: int
    files: int = 10_000


@dataclass(frozen=True, slots=True)
class _Item:
    key: str
    name: PurePosixPath
    size: int
    etag: str


def fetch(storage: Storage, uri: str, folder: Path, limits: Limits) -> list[Path]:
    """Brings the object at `uri`, or all objects below it, into `folder`, which must not exist yet.

    One object becomes ``folder/LAST-PART-OF-ITS-KEY``; below a prefix the rest of each key is the path. The folder
    appears whole or not at all. Blocking. Raises NoSuchBucket, NoSuchKey, EntityTooLarge, and InvalidArgument for a key
    that would leave the folder.
    """
    location = Location.parse(uri)
    items = _items(storage, location, limits)
    if sum(item.size for item in items) > limits.total_bytes:
        raise ObjectError("EntityTooLarge", f"{uri} holds more than {limits.total_bytes} bytes.")
    folders = {parent for item in items for parent in item.name.parents}
    if clash := next((item for item in items if item.name in folders), None):
        raise ObjectError("InvalidArgument", f"{clash.key!r} would be a file and a folder.", Key=clash.key)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        left = limits.total_bytes
        for item in items:
            left -= _save(storage, location.bucket, item, made / item.name, left)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made)
        raise
    return [folder / item.name for item in items]


def look(storage: Storage, uri: str, limits: Limits) -> str:
    """What tells the contents of `uri`, an object or all objects below it, from those of another time: from their
    keys, sizes and entity tags, without reading them. Blocking. Raises NoSuchBucket, NoSuchKey, EntityTooLarge."""
    items = sorted(_items(storage, Location.parse(uri), limits), key=lambda item: item.key)
    said = "\n".join(f"{item.key}\0{item.size}\0{item.etag}" for item in items)
    return hashlib.sha256(said.encode()).hexdigest()


def _items(storage: Storage, location: Location, limits: Limits) -> list[_Item]:
    if location.key and not location.key.endswith("/"):
        try:
            head = storage.call(_operation("HeadObject"), {"Bucket": location.bucket, "Key": location.key}, None)
            return [_Item(location.key, _inside(location.key.rpartition("/")[2]), head["ContentLength"], head["ETag"])]
        except ObjectError as error:
            if error.code != "NoSuchKey":
                raise
    prefix = f"{location.key.rstrip('/')}/" if location.key else ""
    items: list[_Item] = []
    for key, size, etag in _listed(storage, location.bucket, prefix):
        if not key.endswith("/"):  # what consoles make to show a folder
            items.append(_Item(key, _inside(key.removeprefix(prefix)), size, etag))
        if len(items) > limits.files:
            raise ObjectError("EntityTooLarge", f"There are more than {limits.files} objects below {prefix}.")
    if not items:
        where = f"s3://{location.bucket}/{location.key}"
        raise ObjectError("NoSuchKey", f"There is no object at {where}.", Key=location.key)
    return items


def _listed(storage: Storage, bucket: str, prefix: str) -> Iterator[tuple[str, int, str]]:
    params = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = storage.call(_operation("ListObjectsV2"), params, None)
        yield from ((row["Key"], row["Size"], row["ETag"]) for row in page.get("Contents", ()))
        if not page["IsTruncated"]:
            return
        params = {**params, "ContinuationToken": page["NextContinuationToken"]}


def _inside(name: str) -> PurePosixPath:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ObjectError("InvalidArgument", f"The key {name!r} cannot be the path of a file.", Key=name)
    return PurePosixPath(*parts)


def _save(storage: Storage, bucket: str, item: _Item, path: Path, most: int) -> int:
    """Writes one object, whole; its size. Another process may replace it meanwhile: then from the start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        content: Content = storage.call(_operation("GetObject"), {"Bucket": bucket, "Key": item.key}, None)["Body"]
        try:
            return _written(content, path, item.key, most)
        except FileNotFoundError:
            if attempt == _ATTEMPTS:
                raise
            attempt += 1
        finally:
            content.close()


def _written(content: Content, path: Path, key: str, most: int) -> int:
    size = 0
    with path.open("wb") as file:
        for block in content.blocks():
            size += len(block)
            if size > most:
                raise ObjectError("EntityTooLarge", f"{key} grew beyond what may be fetched.", Key=key)
            file.write(block)
    return size


def _operation(name: str) -> object:
    return MODEL.operation_model(name)

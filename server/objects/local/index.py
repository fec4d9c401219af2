"""The index: which objects there are and which files hold them, in SQLite. One transaction makes a change visible.

Small content is kept here too: a put then waits for the disk once instead of three times. Keys are kept as UTF-8
bytes, so SQLite's own order of them is S3's. Write-ahead logging with full synchronisation: what was committed
survives the process and the machine.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from server.objects.errors import ObjectError
from server.objects.local.records import (
    Bucket,
    Details,
    Listed,
    Part,
    Stored,
    Upload,
    pieces_from,
    pieces_json,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
  name TEXT PRIMARY KEY, region TEXT NOT NULL, created INTEGER NOT NULL, encryption TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE IF NOT EXISTS objects (
  bucket TEXT NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified INTEGER NOT NULL,
  algorithm TEXT, checksum_type TEXT NOT NULL, details TEXT NOT NULL, pieces TEXT NOT NULL,
  inline BLOB NOT NULL, PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (
  id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, initiated INTEGER NOT NULL, details TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE IF NOT EXISTS parts (
  upload TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE, number INTEGER NOT NULL, size INTEGER NOT NULL,
  etag TEXT NOT NULL, modified INTEGER NOT NULL, blob TEXT NOT NULL, checksums TEXT NOT NULL,
  salt TEXT NOT NULL DEFAULT '', PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS objects_in AFTER INSERT ON objects BEGIN UPDATE usage SET bytes = bytes + NEW.size; END;
CREATE TRIGGER IF NOT EXISTS objects_out AFTER DELETE ON objects BEGIN UPDATE usage SET bytes = bytes - OLD.size; END;
CREATE TRIGGER IF NOT EXISTS parts_in AFTER INSERT ON parts BEGIN UPDATE usage SET bytes = bytes + NEW.size; END;
CREATE TRIGGER IF NOT EXISTS parts_out AFTER DELETE ON parts BEGIN UPDATE usage SET bytes = bytes - OLD.size; END;
"""
"""`usage` changes with the rows it counts, in their transaction, so it cannot differ from their sum."""


_TOTAL = "(SELECT coalesce(sum(size), 0) FROM objects) + (SELECT coalesce(sum(size), 0) FROM parts)"
_ADDED = (("buckets", "encryption", "'{}'"), ("parts", "salt", "''"))
"""Columns that older folders lack, with what their rows have there."""


class Index:
    """One connection, one caller at a time; every call is short. Raises InsufficientStorage when the disk is full."""

    def __init__(self, path: Path) -> None:
        self._mutex = threading.RLock()
        self._database = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "recursive_triggers=ON"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)
        with self.change():
            for table, column, default in _ADDED:
                if not self._rows("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column):
                    self._rows(f"ALTER TABLE {table} ADD COLUMN {column} TEXT NOT NULL DEFAULT {default}")
            if not self._rows("SELECT 1 FROM usage"):  # a folder that is new, or older than the count
                self._rows(f"INSERT INTO usage VALUES (1, {_TOTAL})")

    def close(self) -> None:
        with self._mutex:
            self._database.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """All that is done within becomes visible at once when it ends, nothing if it raises."""
        with self._mutex:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._database.execute("COMMIT")
                except BaseException:
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise ObjectError("InsufficientStorage") from error
                raise

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._mutex:
            return self._database.execute(statement, values).fetchall()

    def used(self) -> int:
        """Bytes of all objects, and of the parts of open uploads."""
        ((found,),) = self._rows("SELECT bytes FROM usage")
        return int(found)

    def recount(self) -> None:
        """Reads what is used from the rows again: an older Hearth may have written to the folder since."""
        self._rows(f"UPDATE usage SET bytes = {_TOTAL}")

    # Buckets

    def bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        for row in self._rows("SELECT name, region, created, encryption FROM buckets WHERE name = ?", name):
            return _bucket(*row)
        raise ObjectError("NoSuchBucket", BucketName=name)

    def buckets(self) -> list[Bucket]:
        rows = self._rows("SELECT name, region, created, encryption FROM buckets ORDER BY name")
        return [_bucket(*row) for row in rows]

    def put_bucket(self, bucket: Bucket) -> None:
        """Adds or replaces it."""
        self._rows(
            "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?)",
            bucket.name, bucket.region, bucket.created, json.dumps(dict(bucket.encryption)),
        )  # fmt: skip

    def drop_bucket(self, name: str) -> list[str]:
        """Removes the bucket and its open uploads; the blobs of those. Raises BucketNotEmpty."""
        if self._rows("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", name):
            raise ObjectError("BucketNotEmpty", BucketName=name)
        blobs = self._rows("SELECT blob FROM parts JOIN uploads ON id = upload WHERE bucket = ?", name)
        self._rows("DELETE FROM uploads WHERE bucket = ?", name)
        self._rows("DELETE FROM buckets WHERE name = ?", name)
        return [blob for (blob,) in blobs]

    # Objects

    def find(self, bucket: str, key: str) -> Stored | None:
        rows = self._rows(
            "SELECT size, etag, modified, details, pieces, inline FROM objects WHERE bucket = ? AND key = ?",
            bucket, key.encode(),
        )  # fmt: skip
        for size, etag, modified, details, pieces, inline in rows:
            return Stored(bucket, key, size, etag, modified, Details.from_json(details), pieces_from(pieces), inline)
        return None

    def get(self, bucket: str, key: str) -> Stored:
        """Raises NoSuchBucket, NoSuchKey."""
        stored = self.find(bucket, key)
        if stored is None:
            self.bucket(bucket)
            raise ObjectError("NoSuchKey", Key=key)
        return stored

    def put(self, stored: Stored) -> None:
        algorithm = next(iter(stored.details.checksums), None)
        self._rows(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            stored.bucket, stored.key.encode(), stored.size, stored.etag, stored.modified, algorithm,
            stored.details.checksum_type, stored.details.to_json(), pieces_json(stored.pieces), stored.inline,
        )  # fmt: skip

    def drop(self, bucket: str, key: str) -> None:
        self._rows("DELETE FROM objects WHERE bucket = ? AND key = ?", bucket, key.encode())

    def listed(self, bucket: str, start: bytes, end: bytes | None, limit: int) -> list[Listed]:
        """At most `limit` objects with ``start <= key < end``, in order."""
        rows = self._rows(
            "SELECT key, size, etag, modified, algorithm, checksum_type FROM objects "
            "WHERE bucket = ? AND key >= ? AND (? IS NULL OR key < ?) ORDER BY key LIMIT ?",
            bucket, start, end, end, limit,
        )  # fmt: skip
        return [Listed(key.decode(), *rest) for key, *rest in rows]

    # Uploads

    def add_upload(self, upload: Upload) -> None:
        self._rows(
            "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)",
            upload.id, upload.bucket, upload.key.encode(), upload.initiated, upload.details.to_json(),
        )  # fmt: skip

    def upload(self, bucket: str, key: str, upload: str) -> Upload:
        """Raises NoSuchBucket, NoSuchUpload."""
        rows = self._rows(
            "SELECT initiated, details FROM uploads WHERE id = ? AND bucket = ? AND key = ?",
            upload, bucket, key.encode(),
        )  # fmt: skip
        for initiated, details in rows:
            return Upload(upload, bucket, key, initiated, Details.from_json(details))
        self.bucket(bucket)
        raise ObjectError("NoSuchUpload", UploadId=upload)

    def uploads(self, bucket: str, start: bytes) -> list[Upload]:
        """Open uploads from the key `start` on, by key and then by age."""
        rows = self._rows(
            "SELECT id, key, initiated, details FROM uploads WHERE bucket = ? AND key >= ? ORDER BY key, id",
            bucket, start,
        )  # fmt: skip
        return [
            Upload(name, bucket, key.decode(), initiated, Details.from_json(details))
            for name, key, initiated, details in rows
        ]

    def drop_upload(self, upload: str) -> list[str]:
        """Removes the upload; the blobs of its parts."""
        blobs = self._rows("SELECT blob FROM parts WHERE upload = ?", upload)
        self._rows("DELETE FROM uploads WHERE id = ?", upload)
        return [blob for (blob,) in blobs]

    def put_part(self, upload: str, part: Part) -> list[str]:
        """Adds or replaces a part; the blob of the one it replaces."""
        old = self._rows("SELECT blob FROM parts WHERE upload = ? AND number = ?", upload, part.number)
        self._rows(
            "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            upload, part.number, part.size, part.etag, part.modified, part.blob, json.dumps(dict(part.checksums)),
            part.salt,
        )  # fmt: skip
        return [blob for (blob,) in old]

    def parts(self, upload: str, after: int = 0, limit: int = -1) -> list[Part]:
        rows = self._rows(
            "SELECT number, size, etag, modified, blob, checksums, salt FROM parts WHERE upload = ? AND number > ? "
            "ORDER BY number LIMIT ?",
            upload, after, limit,
        )  # fmt: skip
        return [
            Part(number, size, etag, modified, blob, json.loads(sums), salt)
            for number, size, etag, modified, blob, sums, salt in rows
        ]

    def blobs(self) -> Iterable[str]:
        """Every blob that an object or a part needs."""
        yield from (blob for (blob,) in self._rows("SELECT blob FROM parts"))
        for (pieces,) in self._rows("SELECT pieces FROM objects"):
            yield from (piece.blob for piece in pieces_from(pieces))


def _bucket(name: str, region: str, created: int, encryption: str) -> Bucket:
    return Bucket(name, region, created, json.loads(encryption))

"""The quota of storage, as S3's clients meet it, and what it counts."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server.objects.app import application
from server.objects.local.index import Index
from server.store import quotas
from server.store.quotas import STORAGE
from server.store.store import Store, connect
from tests.objects.conftest import blobs
from tests.objects.serving import Served, client, settings
from tests.objects.test_durability import Process
from tests.objects.test_objects import body, code

MB = 1_000_000
PART = 5 * 1024 * 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Any, Served, Path]]:
    """A store of 8 MB with a bucket."""
    served = Served(application(settings(tmp_path, quota_storage_mb=8)))
    s3 = client(served.url, max_pool_connections=20)
    s3.create_bucket(Bucket="bbb")
    yield s3, served, tmp_path
    s3.close()
    served.close()


def used(folder: Path) -> tuple[int, int]:
    """What the index says that is used, and the sum of what there is."""
    with sqlite3.connect(folder / "objects" / "index.db") as database:
        ((counted,),) = database.execute("SELECT bytes FROM usage")
        sums = [database.execute(f"SELECT coalesce(sum(size), 0) FROM {table}").fetchone()[0]
                for table in ("objects", "parts")]  # fmt: skip
    database.close()
    return counted, sum(sums)


def test_what_would_be_over_is_refused_and_leaves_nothing(small: tuple[Any, Served, Path]) -> None:
    s3, _, folder = small
    s3.put_object(Bucket="bbb", Key="one", Body=bytes(5 * MB))
    before = set(blobs(folder))
    assert code(s3.put_object, Bucket="bbb", Key="two", Body=bytes(4 * MB)) == ("QuotaExceeded", 403)
    assert code(s3.copy_object, Bucket="bbb", Key="copy", CopySource="bbb/one") == ("QuotaExceeded", 403)
    upload = s3.create_multipart_upload(Bucket="bbb", Key="parts")["UploadId"]
    part = {"Bucket": "bbb", "Key": "parts", "UploadId": upload, "PartNumber": 1}
    assert code(s3.upload_part, **part, Body=bytes(PART)) == ("QuotaExceeded", 403)
    assert code(s3.upload_part_copy, **part, CopySource="bbb/one") == ("QuotaExceeded", 403)
    assert set(blobs(folder)) == before
    assert used(folder) == (5 * MB, 5 * MB)
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="bbb")["Contents"]] == ["one"]
    s3.upload_part(**part, Body=bytes(3 * MB))
    assert code(s3.put_object, Bucket="bbb", Key="tiny", Body=b"1") == ("QuotaExceeded", 403)
    s3.put_object(Bucket="bbb", Key="one", Body=bytes(4 * MB))  # in the place of a larger one
    s3.put_object(Bucket="bbb", Key="empty", Body=b"")
    s3.upload_part(**part, Body=bytes(4 * MB))
    assert used(folder) == (8 * MB, 8 * MB)
    s3.abort_multipart_upload(Bucket="bbb", Key="parts", UploadId=upload)
    s3.put_object(Bucket="bbb", Key="two", Body=bytes(4 * MB))
    s3.delete_object(Bucket="bbb", Key="two")
    assert used(folder) == (4 * MB, 4 * MB)


def test_a_size_that_nobody_said_is_found_out(small: tuple[Any, Served, Path]) -> None:
    """Two that fit alone and not together, at the same time: one of them is kept."""
    s3, _, folder = small

    def put(key: str) -> str:
        try:
            s3.put_object(Bucket="bbb", Key=key, Body=bytes(3 * MB))
        except ClientError as refused:
            return str(refused.response["Error"]["Code"])
        return "kept"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(put, [f"k{number}" for number in range(8)]))
    assert sorted(outcomes) == ["QuotaExceeded"] * 6 + ["kept"] * 2
    assert used(folder) == (6 * MB, 6 * MB)
    assert len(blobs(folder)) == 2


def test_a_quota_of_its_own_and_a_lower_one(small: tuple[Any, Served, Path]) -> None:
    s3, served, folder = small
    s3.put_object(Bucket="bbb", Key="one", Body=bytes(6 * MB))
    engine = connect(settings(folder).database)
    store = Store(engine, "123456789012", "us-east-1")
    quotas.put(store, store.account, STORAGE, 1.0)
    served.app.storage._quota.__self__._known = None  # type: ignore[attr-defined]  # as a second later
    assert code(s3.put_object, Bucket="bbb", Key="two", Body=b"1") == ("QuotaExceeded", 403)
    s3.put_object(Bucket="bbb", Key="one", Body=bytes(5 * MB))  # less than there was
    assert len(body(s3.get_object(Bucket="bbb", Key="one"))) == 5 * MB
    engine.dispose()


def test_the_count_is_the_sum_after_anything(tmp_path: Path) -> None:
    served = Served(application(settings(tmp_path)))
    s3 = client(served.url)
    chance = random.Random(5)
    s3.create_bucket(Bucket="bbb")
    s3.create_bucket(Bucket="spare")
    for number in range(40):
        key, size = f"k{chance.randrange(6)}", chance.choice((0, 10, 20_000, 300_000))
        match chance.randrange(6):
            case 0 | 1:
                s3.put_object(Bucket="bbb", Key=key, Body=bytes(size))
            case 2:
                s3.delete_objects(Bucket="bbb", Delete={"Objects": [{"Key": key}]})
            case 3:
                s3.put_object(Bucket="bbb", Key="source", Body=bytes(size))
                s3.copy_object(Bucket="bbb", Key=key, CopySource="bbb/source")
            case 4:
                bucket = chance.choice(("bbb", "spare"))
                made = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
                named = {"Bucket": bucket, "Key": key, "UploadId": made}
                tags = [s3.upload_part(**named, PartNumber=2, Body=bytes(size + n))["ETag"] for n in range(2)]
                if bucket == "bbb" and chance.random() < 0.7:
                    parts = [{"PartNumber": 2, "ETag": tags[-1]}]
                    s3.upload_part(**named, PartNumber=1, Body=bytes(7))  # not named when it is completed
                    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
                elif bucket == "bbb":
                    s3.abort_multipart_upload(**named)
            case 5 if number % 2:
                s3.delete_bucket(Bucket="spare")  # with its open uploads
                s3.create_bucket(Bucket="spare")
        counted, there = used(tmp_path)
        assert counted == there
    s3.close()
    served.close()


def test_the_count_survives_kill_9(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.s3.create_bucket(Bucket="bucket-1")
    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(process.s3.put_object, Bucket="bucket-1", Key=f"k{number}", Body=bytes(50_000 + number))
                for number in range(12)]  # fmt: skip
        puts[3].result(30)
        process.kill()
        counted, there = used(tmp_path)
        process.start()  # what was under way is sent again
    assert counted == there >= 50_000
    assert used(tmp_path) == (600_066, 600_066)
    process.s3.close()
    process.close()


def test_a_folder_that_is_older_than_the_count(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.db")
    index._rows("INSERT INTO objects VALUES ('b', X'61', 7, 'e', 1, NULL, 'FULL_OBJECT', '{}', '[]', X'')")
    index._rows("UPDATE usage SET bytes = 1")
    index.recount()
    assert index.used() == 7
    index._rows("DROP TABLE usage")
    for trigger in ("objects_in", "objects_out", "parts_in", "parts_out"):
        index._rows(f"DROP TRIGGER {trigger}")
    index.close()
    again = Index(tmp_path / "index.db")
    assert again.used() == 7
    again.close()

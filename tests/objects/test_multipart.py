"""Multipart uploads through boto3, on both storages."""

from __future__ import annotations

import base64
import hashlib
import random
import zlib
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from server.objects.crc import CRC32C
from tests.objects.test_objects import body, code

MIB = 1024 * 1024
FIRST, LAST = random.Random(1).randbytes(5 * MIB), random.Random(2).randbytes(700_001)


def begin(s3: Any, bucket: str, key: str = "k", **more: Any) -> dict[str, Any]:
    return {"Bucket": bucket, "Key": key,
            "UploadId": s3.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"]}  # fmt: skip


def put(s3: Any, upload: dict[str, Any], number: int, content: bytes, **more: Any) -> dict[str, Any]:
    answer = s3.upload_part(**upload, PartNumber=number, Body=content, **more)
    sums = {name: value for name, value in answer.items() if name.startswith("Checksum")}
    return {"PartNumber": number, "ETag": answer["ETag"], **sums}


def complete(s3: Any, upload: dict[str, Any], parts: list[dict[str, Any]], **more: Any) -> Any:
    return s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **more)


def test_parts_become_one_object(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket, ContentType="text/x", Metadata={"m": "1"}, Tagging="t=1")
    last, first = put(s3, upload, 9, LAST), put(s3, upload, 3, FIRST)
    put(s3, upload, 5, b"left out")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="k")
    done = complete(s3, upload, [first, last], MpuObjectSize=len(FIRST + LAST))
    digest = hashlib.md5(hashlib.md5(FIRST).digest() + hashlib.md5(LAST).digest()).hexdigest()
    assert done["ETag"] == f'"{digest}-2"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (body(got), got["ETag"], got["ContentType"]) == (FIRST + LAST, done["ETag"], "text/x")
    assert (got["Metadata"], got["TagCount"]) == ({"m": "1"}, 1)
    assert complete(s3, upload, [first, last])["ETag"] == done["ETag"]  # asked again, answered again
    assert code(lambda: s3.list_parts(**upload)) == ("NoSuchUpload", 404)
    around = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={5 * MIB - 10}-{5 * MIB + 9}")
    assert body(around) == FIRST[-10:] + LAST[:10]
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (body(second), second["PartsCount"]) == (LAST, 2)
    assert code(lambda: s3.get_object(Bucket=bucket, Key="k", PartNumber=3)) == ("InvalidPartNumber", 416)


def test_what_complete_refuses(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    upload = begin(s3, bucket)
    small, large, other = put(s3, upload, 1, b"s"), put(s3, upload, 2, FIRST), put(s3, upload, 3, b"t")
    assert code(lambda: complete(s3, upload, [large, small])) == ("InvalidPartOrder", 400)
    assert code(lambda: complete(s3, upload, [small, small])) == ("InvalidPartOrder", 400)
    assert code(lambda: complete(s3, upload, [small, large])) == ("EntityTooSmall", 400)
    wrong = {**large, "ETag": small["ETag"]}
    absent = {"PartNumber": 7, "ETag": small["ETag"]}
    assert code(lambda: complete(s3, upload, [wrong])) == ("InvalidPart", 400)
    assert code(lambda: complete(s3, upload, [large, absent])) == ("InvalidPart", 400)
    assert code(lambda: complete(s3, upload, [])) == ("MalformedXML", 400)
    assert code(lambda: complete(s3, upload, [large, other], MpuObjectSize=5)) == ("InvalidRequest", 400)
    assert code(lambda: complete(s3, upload, [large, other], IfNoneMatch="*")) == ("PreconditionFailed", 412)
    assert code(lambda: complete(s3, {**upload, "UploadId": "nope"}, [large])) == ("NoSuchUpload", 404)
    assert code(lambda: complete(s3, {**upload, "Key": "other"}, [large])) == ("NoSuchUpload", 404)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"old"
    complete(s3, upload, [large, other])
    assert body(s3.get_object(Bucket=bucket, Key="k")) == FIRST + b"t"


def test_parts_are_replaced_numbered_and_listed(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket)
    for number in (0, 10_001):
        assert code(s3.upload_part, **upload, PartNumber=number, Body=b"") == ("InvalidArgument", 400)
    for number in (2, 10_000, 1):
        put(s3, upload, number, b"first try")
    put(s3, upload, 2, b"second")
    pages = s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": 2})
    listed = [[(part["PartNumber"], part["Size"]) for part in page["Parts"]] for page in pages]
    assert listed == [[(1, 9), (2, 6)], [(10_000, 9)]]
    s3.abort_multipart_upload(**upload)
    assert code(lambda: s3.abort_multipart_upload(**upload)) == ("NoSuchUpload", 404)
    assert code(lambda: s3.upload_part(**upload, PartNumber=1, Body=b"")) == ("NoSuchUpload", 404)


def test_copied_parts(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=FIRST + LAST)
    upload = begin(s3, bucket, "to")
    source = {"CopySource": {"Bucket": bucket, "Key": "source"}}

    def copy(number: int, **more: Any) -> dict[str, Any]:
        answer = s3.upload_part_copy(**upload, **source, PartNumber=number, **more)["CopyPartResult"]
        return {"PartNumber": number, "ETag": answer["ETag"]}

    parts = [copy(1), copy(2, CopySourceRange="bytes=10-1009")]
    complete(s3, upload, parts)
    assert body(s3.get_object(Bucket=bucket, Key="to")) == FIRST + LAST + FIRST[10:1010]
    upload = begin(s3, bucket, "to")
    for refused in ("bytes=5-", "0-5", f"bytes=0-{len(FIRST + LAST)}"):
        assert code(copy, 1, CopySourceRange=refused) == ("InvalidArgument", 400)
    assert code(lambda: copy(1, CopySourceIfMatch='"x"')) == ("PreconditionFailed", 412)


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_checksums_of_the_whole(s3: Any, bucket: str, kind: str) -> None:
    upload = begin(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType=kind)
    parts = [put(s3, upload, 1, FIRST), put(s3, upload, 2, LAST)]
    sums = [zlib.crc32(content).to_bytes(4, "big") for content in (FIRST, LAST)]
    assert [part["ChecksumCRC32"] for part in parts] == [base64.b64encode(value).decode() for value in sums]
    composite = base64.b64encode(zlib.crc32(b"".join(sums)).to_bytes(4, "big")).decode() + "-2"
    full = base64.b64encode(zlib.crc32(FIRST + LAST).to_bytes(4, "big")).decode()
    expected = composite if kind == "COMPOSITE" else full
    wrong = {"ChecksumCRC32": "AAAAAA==", "ChecksumType": kind}
    assert code(lambda: complete(s3, upload, parts, **wrong))[0] == "BadDigest"
    done = complete(s3, upload, parts, ChecksumType=kind, ChecksumCRC32=full if kind == "FULL_OBJECT" else composite)
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (expected, kind)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (expected, kind)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == FIRST + LAST


def test_checksums_that_do_not_go_together(s3: Any, bucket: str) -> None:
    begun = {"Bucket": bucket, "Key": "k"}
    for algorithm, kind in (("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")):
        more = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
        assert code(s3.create_multipart_upload, **begun, **more) == ("InvalidRequest", 400)
    assert code(lambda: s3.create_multipart_upload(**begun, ChecksumAlgorithm="XXHASH64")) == ("NotImplemented", 501)
    upload = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    right = base64.b64encode(CRC32C.update(LAST).to_bytes(4, "big")).decode()
    assert code(lambda: put(s3, upload, 1, LAST, ChecksumCRC32C=right)) == ("InvalidRequest", 400)


def test_uploads_are_listed(s3: Any, bucket: str) -> None:
    names = [begin(s3, bucket, key)["UploadId"] for key in ("b", "a/1", "a/2", "b", "ü")]
    expected = [("a/1", names[1]), ("a/2", names[2]), ("b", names[0]), ("b", names[3]), ("ü", names[4])]
    for size in (1, 2, 1000):
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
        assert [(row["Key"], row["UploadId"]) for page in pages for row in page.get("Uploads", [])] == expected
    rolled = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [row["Prefix"] for row in rolled["CommonPrefixes"]] == ["a/"]
    assert [row["Key"] for row in rolled["Uploads"]] == ["b", "b", "ü"]
    assert [row["Key"] for row in s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")["Uploads"]] == ["a/1", "a/2"]
    s3.delete_bucket(Bucket=bucket)
    assert code(lambda: s3.list_multipart_uploads(Bucket=bucket)) == ("NoSuchBucket", 404)


def test_transfers_of_files(s3: Any, bucket: str, tmp_path: Path) -> None:
    content = random.Random(3).randbytes(11 * MIB + 5)
    (tmp_path / "up").write_bytes(content)
    parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    s3.upload_file(str(tmp_path / "up"), bucket, "file", Config=parts)
    assert s3.head_object(Bucket=bucket, Key="file")["ETag"].endswith('-3"')
    s3.download_file(bucket, "file", str(tmp_path / "down"), Config=parts)
    assert (tmp_path / "down").read_bytes() == content
    s3.copy({"Bucket": bucket, "Key": "file"}, bucket, "copied", Config=parts)
    s3.download_file(bucket, "copied", str(tmp_path / "copied"), Config=parts)
    assert (tmp_path / "copied").read_bytes() == content

"""Objects and buckets through boto3, on both storages."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

SMALL = bytes(range(256)) * 40
"""Kept in the index."""

CONTENT = bytes(range(256)) * 400
"""Kept in a file."""

both = pytest.mark.parametrize("content", [SMALL, CONTENT], ids=["small", "large"])


def code(call: Callable[..., Any], /, *asked: Any, **more: Any) -> tuple[str, int]:
    """Code and status of the error that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(*asked, **more)
    response: Any = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def body(answer: Any) -> bytes:
    content: bytes = answer["Body"].read()
    return content


def test_bucket_life(s3: Any) -> None:
    s3.create_bucket(Bucket="life", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert s3.get_bucket_location(Bucket="life")["LocationConstraint"] == "eu-west-1"
    assert s3.head_bucket(Bucket="life")["BucketRegion"] == "eu-west-1"
    listed = {row["Name"]: row for row in s3.list_buckets()["Buckets"]}
    assert abs((listed["life"]["CreationDate"] - dt.datetime.now(dt.UTC)).total_seconds()) < 60
    with pytest.raises(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket="life")
    for nowhere in ("us-east-1", "atlantis"):
        there = {"LocationConstraint": nowhere}
        assert code(s3.create_bucket, Bucket="other", CreateBucketConfiguration=there) == (
            "InvalidLocationConstraint", 400)  # fmt: skip
    s3.put_object(Bucket="life", Key="k", Body=b"")
    assert code(lambda: s3.delete_bucket(Bucket="life")) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="life", Key="k")
    s3.delete_bucket(Bucket="life")
    assert code(lambda: s3.head_bucket(Bucket="life")) == ("404", 404)
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.list_objects_v2(Bucket="life")


def test_a_bucket_without_constraint_has_no_location(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None


def test_list_buckets_pages(s3: Any) -> None:
    for name in ("paged-1", "paged-2", "paged-3"):
        s3.create_bucket(Bucket=name)
    pages = [[row["Name"] for row in page["Buckets"]] for page in
             s3.get_paginator("list_buckets").paginate(Prefix="paged-", PaginationConfig={"PageSize": 2})]  # fmt: skip
    assert pages == [["paged-1", "paged-2"], ["paged-3"]]
    for name in ("paged-1", "paged-2", "paged-3"):
        s3.delete_bucket(Bucket=name)


def test_put_and_get_keep_content_and_description(s3: Any, bucket: str) -> None:
    put = s3.put_object(
        Bucket=bucket, Key="a/ü+ %41/ö.txt", Body=CONTENT, ContentType="text/plain", CacheControl="no-store",
        ContentDisposition="attachment", ContentLanguage="de", ContentEncoding="identity",
        Expires=dt.datetime(2030, 1, 1, tzinfo=dt.UTC), Metadata={"Purpose": "a test"}, Tagging="a=1&b=2%20c",
    )  # fmt: skip
    assert put["ETag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    crc = base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()
    assert (put["ChecksumCRC32"], put["ChecksumType"]) == (crc, "FULL_OBJECT")
    for read in (s3.get_object, s3.head_object):
        answer = read(Bucket=bucket, Key="a/ü+ %41/ö.txt")
        shown = {name: answer[name] for name in ("ContentType", "CacheControl", "ContentDisposition",
                 "ContentLanguage", "ContentEncoding", "ContentLength", "Metadata", "ETag")}  # fmt: skip
        assert shown == {
            "ContentType": "text/plain", "CacheControl": "no-store", "ContentDisposition": "attachment",
            "ContentLanguage": "de", "ContentEncoding": "identity", "ContentLength": len(CONTENT),
            "Metadata": {"purpose": "a test"}, "ETag": put["ETag"],
        }  # fmt: skip
        assert answer["Expires"] == dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
        assert answer.get("TagCount") == 2
    assert body(s3.get_object(Bucket=bucket, Key="a/ü+ %41/ö.txt")) == CONTENT


def test_checksum_mode_returns_what_was_stored(s3: Any, bucket: str) -> None:
    sums = {
        "ChecksumSHA256": hashlib.sha256(CONTENT).digest(), "ChecksumSHA1": hashlib.sha1(CONTENT).digest(),
        "ChecksumSHA512": hashlib.sha512(CONTENT).digest(), "ChecksumCRC32": zlib.crc32(CONTENT).to_bytes(4, "big"),
    }  # fmt: skip
    for member, value in sums.items():
        text = base64.b64encode(value).decode()
        s3.put_object(Bucket=bucket, Key="k", Body=CONTENT, **{member: text})
        assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[member] == text
        assert member not in s3.head_object(Bucket=bucket, Key="k")
        assert body(s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")) == CONTENT
        wrong = base64.b64encode(bytes(len(value))).decode()
        assert code(s3.put_object, Bucket=bucket, Key="k", Body=b"other", **{member: wrong}) == (
            "BadDigest", 400)  # fmt: skip
        assert body(s3.get_object(Bucket=bucket, Key="k")) == CONTENT


def test_md5_of_the_content(s3: Any, bucket: str) -> None:
    right = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=CONTENT, ContentMD5=right)
    assert code(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"no", ContentMD5=right)) == ("BadDigest", 400)
    assert code(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"no", ContentMD5="AAAA")) == ("InvalidDigest", 400)


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-0", slice(0, 1)), ("bytes=5-99", slice(5, 100)), ("bytes=10000-", slice(10000, None)),
     ("bytes=-7", slice(-7, None)), ("bytes=0-999999", slice(0, None)), ("bytes=-999999", slice(0, None))],
)  # fmt: skip
@both
def test_ranges(s3: Any, bucket: str, asked: str, part: slice, content: bytes) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=content)
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    start, stop, _ = part.indices(len(content))
    assert body(got) == content[part]
    assert got["ContentRange"] == f"bytes {start}-{stop - 1}/{len(content)}"
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    head = s3.head_object(Bucket=bucket, Key="k", Range=asked)
    assert (head["ContentLength"], head["ContentRange"]) == (stop - start, got["ContentRange"])


def test_ranges_that_cannot_be(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=CONTENT)
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    beyond = f"bytes={len(CONTENT)}-"
    for key, asked in (("k", beyond), ("k", "bytes=-0"), ("empty", "bytes=0-"), ("empty", "bytes=-1")):
        assert code(s3.get_object, Bucket=bucket, Key=key, Range=asked) == ("InvalidRange", 416)
    for ignored in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=a-b"):
        assert body(s3.get_object(Bucket=bucket, Key="k", Range=ignored)) == CONTENT


def test_conditional_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=CONTENT)["ETag"]
    past, future = dt.datetime(2001, 1, 1, tzinfo=dt.UTC), dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
    passing: list[dict[str, Any]] = [
        {"IfMatch": etag}, {"IfMatch": "*"}, {"IfNoneMatch": '"other"'}, {"IfModifiedSince": past},
        {"IfUnmodifiedSince": future}, {"IfMatch": etag, "IfUnmodifiedSince": past},
        {"IfNoneMatch": '"other"', "IfModifiedSince": future},
    ]  # fmt: skip
    for conditions in passing:
        assert body(s3.get_object(Bucket=bucket, Key="k", **conditions)) == CONTENT
    for conditions in ({"IfMatch": '"other"'}, {"IfUnmodifiedSince": past}):
        assert code(s3.get_object, Bucket=bucket, Key="k", **conditions) == ("PreconditionFailed", 412)
        assert code(s3.head_object, Bucket=bucket, Key="k", **conditions) == ("412", 412)
    for conditions in ({"IfNoneMatch": etag}, {"IfModifiedSince": future}):
        assert code(s3.get_object, Bucket=bucket, Key="k", **conditions) == ("304", 304)
        assert code(s3.head_object, Bucket=bucket, Key="k", **conditions) == ("304", 304)


def test_response_overrides(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=CONTENT, ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="text/csv", ResponseCacheControl="no-cache",
        ResponseContentDisposition='attachment; filename="ä.csv"'.encode().decode("latin-1"),
        ResponseExpires=dt.datetime(2031, 5, 6, tzinfo=dt.UTC),
    )  # fmt: skip
    assert (got["ContentType"], got["CacheControl"]) == ("text/csv", "no-cache")
    assert got["Expires"] == dt.datetime(2031, 5, 6, tzinfo=dt.UTC)


def test_conditional_puts(s3: Any, bucket: str) -> None:
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"one", IfNoneMatch="*")["ETag"]
    again = {"Bucket": bucket, "Key": "k", "Body": b"two"}
    assert code(lambda: s3.put_object(**again, IfNoneMatch="*")) == ("PreconditionFailed", 412)
    assert code(lambda: s3.put_object(**again, IfMatch='"nope"')) == ("PreconditionFailed", 412)
    assert code(lambda: s3.put_object(Bucket=bucket, Key="absent", Body=b"", IfMatch=first)) == ("NoSuchKey", 404)
    assert code(lambda: s3.put_object(**again, IfNoneMatch=first)) == ("NotImplemented", 501)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"one"
    s3.put_object(**again, IfMatch=first)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"two"
    assert code(lambda: s3.delete_object(Bucket=bucket, Key="k", IfMatch=first)) == ("PreconditionFailed", 412)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"two"


def test_delete_is_idempotent(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="k")
    assert code(lambda: s3.head_object(Bucket=bucket, Key="k")) == ("404", 404)


@pytest.mark.parametrize("quiet", [False, True])
def test_delete_objects(s3: Any, bucket: str, quiet: bool) -> None:
    keys = ["a", "b/ü", "c&<d>", "tail/ "]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
    named: list[dict[str, Any]] = [{"Key": key} for key in [*keys, "never-there"]]
    named.append({"Key": "kept", "ETag": '"other"'})
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": quiet})
    deleted = [row["Key"] for row in answer.get("Deleted", [])]
    assert deleted == ([] if quiet else [*keys, "never-there"])
    assert [(row["Key"], row["Code"]) for row in answer["Errors"]] == [("kept", "PreconditionFailed")]
    assert [row["Key"] for row in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["kept"]


def test_delete_objects_takes_a_thousand(s3: Any, bucket: str) -> None:
    many = [{"Key": f"k{number}"} for number in range(1001)]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": many[:1000]})["Deleted"]) == 1000
    assert code(lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": many})) == ("MalformedXML", 400)


def test_limits_of_names_and_headers(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="ü" * 512, Body=b"longest")
    assert body(s3.get_object(Bucket=bucket, Key="ü" * 512)) == b"longest"
    assert code(lambda: s3.put_object(Bucket=bucket, Key="ü" * 512 + "x", Body=b"")) == ("KeyTooLongError", 400)
    large = {"a": "x" * 2048}
    assert code(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata=large)) == ("MetadataTooLarge", 400)
    assert code(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="a=1&a=2")) == ("InvalidTag", 400)
    for name in ("endpoints", "invocations", "192.168.0.1", "a..b", "xn--a"):
        assert code(s3.create_bucket, Bucket=name) == ("InvalidBucketName", 400)
    assert code(lambda: s3.put_object(Bucket="absent-bucket", Key="k", Body=b"x" * 3_000_000)) == ("NoSuchBucket", 404)


def test_nothing_is_dropped_in_silence(s3: Any, bucket: str, served: Any, local: Any) -> None:
    if served is not local:
        assert code(lambda: s3.get_bucket_acl(Bucket=bucket)) == ("NotImplemented", 501)
        return
    put = {"Bucket": bucket, "Key": "k", "Body": b"x"}
    asked: list[dict[str, Any]] = [
        {"ACL": "public-read"}, {"StorageClass": "GLACIER"}, {"ServerSideEncryption": "aws:kms:dsse"},
        {"WebsiteRedirectLocation": "/x"}, {"GrantRead": "id=1"}, {"ObjectLockMode": "GOVERNANCE"},
    ]  # fmt: skip
    for more in asked:
        assert code(s3.put_object, **put, **more) == ("NotImplemented", 501)
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="k")
    s3.put_object(**put, ACL="private", StorageClass="STANDARD", ExpectedBucketOwner="123456789012")
    assert code(lambda: s3.put_object(**put, ExpectedBucketOwner="999999999999")) == ("AccessDenied", 403)
    assert code(lambda: s3.get_object(Bucket=bucket, Key="k", VersionId="3")) == ("NotImplemented", 501)
    assert code(lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})) == (
        "NotImplemented", 501)  # fmt: skip


def test_keys_are_names_not_paths(s3: Any, bucket: str) -> None:
    keys = ["../../escape", "..", "a//b", "/lead", "trail/", "a/./b", "%2e%2e/x", "a\tb", "nul\0l", "new\nline",
            "q?x=1#f", "ééé"]  # fmt: skip
    contents = {key: f"content of {key}".encode() for key in keys}
    for key, content in contents.items():
        s3.put_object(Bucket=bucket, Key=key, Body=content)
    assert {key: body(s3.get_object(Bucket=bucket, Key=key)) for key in keys} == contents
    listed = [row["Key"] for row in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(keys, key=str.encode)

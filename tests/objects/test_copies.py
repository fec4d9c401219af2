"""Copies and tags of objects, on both storages."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from typing import Any

import pytest

from tests.objects.test_objects import CONTENT, body, both, code


@both
def test_copy(s3: Any, bucket: str, content: bytes) -> None:
    said = {"ContentType": "text/plain", "Metadata": {"a": "1"}, "Tagging": "t=1"}
    s3.put_object(Bucket=bucket, Key="from ü?+", Body=content, **said)
    source = {"Bucket": bucket, "Key": "from ü?+"}
    etag = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)["CopyObjectResult"]["ETag"]
    copied = s3.get_object(Bucket=bucket, Key="to")
    assert (body(copied), copied["ETag"], copied["Metadata"]) == (content, etag, {"a": "1"})
    assert (copied["ContentType"], copied["TagCount"]) == ("text/plain", 1)
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"},
                   TaggingDirective="REPLACE", Tagging="u=2&v=3")  # fmt: skip
    replaced = s3.head_object(Bucket=bucket, Key="to")
    assert (replaced["Metadata"], replaced["ContentType"], replaced["TagCount"]) == (
        {"b": "2"}, "binary/octet-stream", 2)  # fmt: skip
    s3.delete_object(Bucket=bucket, Key="from ü?+")
    assert body(s3.get_object(Bucket=bucket, Key="to")) == content
    self_copy = {"Bucket": bucket, "Key": "to", "CopySource": f"{bucket}/to"}
    assert code(lambda: s3.copy_object(**self_copy)) == ("InvalidRequest", 400)
    s3.copy_object(**self_copy, MetadataDirective="REPLACE", Metadata={"c": "3"})
    assert body(s3.get_object(Bucket=bucket, Key="to")) == content


def test_copy_on_conditions(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="from", Body=CONTENT)["ETag"]
    copy = {"Bucket": bucket, "Key": "to", "CopySource": f"/{bucket}/from"}
    past, future = dt.datetime(2001, 1, 1, tzinfo=dt.UTC), dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
    for failing in ({"CopySourceIfMatch": '"x"'}, {"CopySourceIfNoneMatch": etag},
                    {"CopySourceIfModifiedSince": future}, {"CopySourceIfUnmodifiedSince": past}):  # fmt: skip
        assert code(s3.copy_object, **copy, **failing) == ("PreconditionFailed", 412)
    s3.copy_object(**copy, CopySourceIfMatch=etag, IfNoneMatch="*")
    assert code(lambda: s3.copy_object(**copy, IfNoneMatch="*")) == ("PreconditionFailed", 412)
    missing = {**copy, "CopySource": f"{bucket}/none"}
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.copy_object(**missing)
    asked = s3.copy_object(**copy, ChecksumAlgorithm="SHA256")["CopyObjectResult"]
    assert asked["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()


def test_tags(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]
    tags = [{"Key": "ü b", "Value": "x/y"}, {"Key": "c", "Value": ""}]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    twice = {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    assert code(lambda: s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=twice)) == ("InvalidTag", 400)
    many = {"TagSet": [{"Key": f"k{number}", "Value": ""} for number in range(11)]}
    assert code(lambda: s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=many)) == ("BadRequest", 400)
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object_tagging(Bucket=bucket, Key="none")

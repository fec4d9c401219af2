"""Objects at rest: encrypted under the key that writer, bucket or setting ask for, with a real boto3 S3 client."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from server.objects.app import application
from server.settings import Settings
from server.store.store import connect
from server.vault.keys import Keys
from server.vault.vault import Vault
from tests.objects.conftest import blobs
from tests.objects.serving import Served, client, settings

MIB = 1024 * 1024
ACCOUNT, REGION = "123456789012", "us-east-1"
FOREIGN = f"arn:aws:kms:{REGION}:999999999999:key/x"
SIZES = (0, 1, 16 * 1024, 16 * 1024 + 1, 64 * 1024, 200_000, 2 * MIB + 7)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@contextmanager
def serving(chosen: Settings) -> Iterator[Any]:
    served = Served(application(chosen))
    s3 = client(served.url)
    try:
        yield s3
    finally:
        s3.close()
        served.close()


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return settings(tmp_path)


@pytest.fixture
def s3(chosen: Settings) -> Iterator[Any]:
    with serving(chosen) as made:
        made.create_bucket(Bucket="b-1")
        yield made


@pytest.fixture
def keys(chosen: Settings) -> Iterator[Keys]:
    vault = Vault(connect(chosen.database), chosen.master_keys)
    yield Keys(vault, vault.store(ACCOUNT, REGION))
    vault.close()


def get(s3: Any, key: str, **more: Any) -> bytes:
    body: bytes = s3.get_object(Bucket="b-1", Key=key, **more)["Body"].read()
    return body


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (folder / "objects").rglob("*") if path.is_file())


@pytest.mark.parametrize("size", SIZES)
def test_an_object_is_the_same_to_its_clients_and_another_on_the_disk(s3: Any, tmp_path: Path, size: int) -> None:
    plain = content(size)
    put = s3.put_object(Bucket="b-1", Key="k", Body=plain, ChecksumAlgorithm="SHA256")
    assert put["ServerSideEncryption"] == "AES256"
    assert put["ETag"] == f'"{hashlib.md5(plain).hexdigest()}"'
    got = s3.get_object(Bucket="b-1", Key="k", ChecksumMode="ENABLED")
    assert (got["Body"].read(), got["ContentLength"], got["ETag"]) == (plain, size, put["ETag"])
    assert (got["ServerSideEncryption"], got["ChecksumSHA256"]) == ("AES256", put["ChecksumSHA256"])
    head = s3.head_object(Bucket="b-1", Key="k")
    assert (head["ContentLength"], head["ServerSideEncryption"]) == (size, "AES256")
    assert s3.list_objects_v2(Bucket="b-1")["Contents"][0]["Size"] == size
    for start, end in ((0, 0), (size // 2, size - 1), (max(0, size - 100), size - 1), (65_530, 65_550)):
        if start <= end < size:
            assert get(s3, "k", Range=f"bytes={start}-{end}") == plain[start : end + 1]
    for at in range(0, size - 32, 4096):
        assert plain[at : at + 32] not in on_disk(tmp_path)


def test_without_the_setting_only_what_asks_is_encrypted(tmp_path: Path) -> None:
    plain = content(100_000)
    with serving(settings(tmp_path, encrypt=False)) as s3:
        s3.create_bucket(Bucket="b-1")
        code, _ = refused(s3.get_bucket_encryption, Bucket="b-1")
        assert code == "ServerSideEncryptionConfigurationNotFoundError"
        assert "ServerSideEncryption" not in s3.put_object(Bucket="b-1", Key="plain", Body=plain)
        assert s3.put_object(Bucket="b-1", Key="own", Body=plain, ServerSideEncryption="AES256")[
            "ServerSideEncryption"] == "AES256"  # fmt: skip
        assert sorted(path.read_bytes() == plain for path in blobs(tmp_path)) == [False, True]
        assert get(s3, "plain") == get(s3, "own") == plain


def test_what_was_stored_before_is_still_there(tmp_path: Path) -> None:
    sizes = {"small": 10, "large": 100_000}
    with serving(settings(tmp_path, encrypt=False)) as s3:
        s3.create_bucket(Bucket="b-1")
        for name, size in sizes.items():
            s3.put_object(Bucket="b-1", Key=name, Body=content(size))
        upload = s3.create_multipart_upload(Bucket="b-1", Key="parts")["UploadId"]
        part = {"Bucket": "b-1", "Key": "parts", "UploadId": upload}
        first = s3.upload_part(**part, PartNumber=1, Body=content(5 * MIB))["ETag"]
    with closing(sqlite3.connect(tmp_path / "objects" / "index.db")) as index, index:
        # As before there was encryption: without its columns and members.
        index.execute("ALTER TABLE buckets DROP COLUMN encryption")
        index.execute("ALTER TABLE parts DROP COLUMN salt")
        for table in ("objects", "uploads"):
            index.execute(f"UPDATE {table} SET details = json_remove(details, '$.encryption')")
    with serving(settings(tmp_path)) as s3:
        for name, size in sizes.items():
            assert get(s3, name) == content(size)
            assert "ServerSideEncryption" not in s3.head_object(Bucket="b-1", Key=name)
            copied = s3.copy_object(Bucket="b-1", Key=f"{name}-copy", CopySource=f"b-1/{name}")
            assert copied["ServerSideEncryption"] == "AES256"
            assert get(s3, f"{name}-copy") == content(size)
        second = s3.upload_part(**part, PartNumber=2, Body=b"end")["ETag"]
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in ((1, first), (2, second))]
        s3.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
        assert get(s3, "parts") == content(5 * MIB) + b"end"


def test_a_kms_key_encrypts_and_can_be_taken_away(s3: Any, keys: Keys) -> None:
    key = keys.create({}, alias="alias/objects")
    sse = {"ServerSideEncryption": "aws:kms"}
    for number, named in enumerate((key.name, key.arn, "alias/objects", keys.arn("alias/objects"))):
        put = s3.put_object(Bucket="b-1", Key=f"k{number}", Body=content(70_000), **sse, SSEKMSKeyId=named)
        assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", key.arn)
    head = s3.head_object(Bucket="b-1", Key="k0")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key.arn)
    s3.put_object(Bucket="b-1", Key="small", Body=b"small", **sse, SSEKMSKeyId=key.name)
    keys.rotate(key, "ON_DEMAND")
    assert get(s3, "k1") == content(70_000)
    keys.change(keys.resolve(key.name), status="Disabled")
    for name in ("k2", "small"):
        code, message = refused(s3.get_object, Bucket="b-1", Key=name)
        assert (code, key.arn in message) == ("KMS.DisabledException", True)
    code, _ = refused(s3.put_object, Bucket="b-1", Key="new", Body=b"", **sse, SSEKMSKeyId=key.arn)
    assert code == "KMS.DisabledException"
    keys.change(keys.resolve(key.name), status="Enabled")
    assert get(s3, "small") == b"small"
    keys.destroy(keys.resolve(key.name))
    assert refused(s3.get_object, Bucket="b-1", Key="k1")[0] == "KMS.NotFoundException"
    s3.delete_object(Bucket="b-1", Key="k1")


def test_s3_s_own_kms_key_is_used_where_none_is_named(s3: Any, keys: Keys) -> None:
    put = s3.put_object(Bucket="b-1", Key="k", Body=b"x", ServerSideEncryption="aws:kms")
    assert put["SSEKMSKeyId"] == keys.resolve("alias/aws/s3").arn
    assert get(s3, "k") == b"x"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"ServerSideEncryption": "AES128"}, "InvalidArgument"),
        ({"ServerSideEncryption": "aws:kms:dsse"}, "NotImplemented"),
        ({"ServerSideEncryption": "AES256", "SSEKMSKeyId": "alias/x"}, "InvalidArgument"),
        ({"SSEKMSKeyId": "alias/x"}, "InvalidArgument"),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/absent"}, "KMS.NotFoundException"),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": "no base64"}, "InvalidArgument"),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": FOREIGN}, "AccessDenied"),
        ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, "NotImplemented"),
    ],
)
def test_what_cannot_be_had_is_refused_and_nothing_is_stored(s3: Any, asked: dict[str, Any], code: str) -> None:
    named = {"Bucket": "b-1", "Key": "k"}
    if "SSECustomerKey" not in asked:
        assert refused(s3.create_multipart_upload, **named, **asked)[0] == code
        assert refused(s3.put_object, **named, Body=b"x", **asked)[0] == code
    assert "Contents" not in s3.list_objects_v2(Bucket="b-1")


def test_an_encryption_context_binds(s3: Any, keys: Keys) -> None:
    key = keys.create({})
    text = base64.b64encode(json.dumps({"team": "a"}).encode()).decode()
    s3.put_object(
        Bucket="b-1", Key="k", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId=key.name,
        SSEKMSEncryptionContext=text, BucketKeyEnabled=True,
    )  # fmt: skip
    assert get(s3, "k") == b"x"
    assert s3.head_object(Bucket="b-1", Key="k")["BucketKeyEnabled"] is True


def rule(algorithm: str, **more: str) -> dict[str, Any]:
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm, **more}}]}


def test_a_bucket_names_the_key_of_its_objects(s3: Any, keys: Keys) -> None:
    key = keys.create({}, alias="alias/bucket")
    shown = s3.get_bucket_encryption(Bucket="b-1")["ServerSideEncryptionConfiguration"]["Rules"]
    assert [r["ApplyServerSideEncryptionByDefault"] for r in shown] == [{"SSEAlgorithm": "AES256"}]
    wanted = rule("aws:kms", KMSMasterKeyID="alias/bucket")
    s3.put_bucket_encryption(Bucket="b-1", ServerSideEncryptionConfiguration=wanted)
    shown = s3.get_bucket_encryption(Bucket="b-1")["ServerSideEncryptionConfiguration"]["Rules"]
    assert shown == [{**wanted["Rules"][0], "BucketKeyEnabled": False}]
    assert s3.put_object(Bucket="b-1", Key="k", Body=b"x")["SSEKMSKeyId"] == key.arn
    asked = s3.put_object(Bucket="b-1", Key="own", Body=b"x", ServerSideEncryption="AES256")
    assert (asked["ServerSideEncryption"], "SSEKMSKeyId" in asked) == ("AES256", False)
    s3.delete_bucket_encryption(Bucket="b-1")
    assert s3.put_object(Bucket="b-1", Key="after", Body=b"x")["ServerSideEncryption"] == "AES256"
    assert get(s3, "k") == get(s3, "after") == b"x"
    wrong: list[dict[str, Any]] = [{"Rules": []}, rule("AES256", KMSMasterKeyID="alias/x"), rule("aws:kms:dsse")]
    for bad in wrong:
        code, _ = refused(s3.put_bucket_encryption, Bucket="b-1", ServerSideEncryptionConfiguration=bad)
        assert code in ("MalformedXML", "InvalidArgument", "NotImplemented")
    for call in (s3.get_bucket_encryption, s3.delete_bucket_encryption):
        assert refused(call, Bucket="absent-1")[0] == "NoSuchBucket"


@pytest.mark.parametrize("size", [100, 300_000])
def test_copies_have_their_target_s_key(s3: Any, keys: Keys, tmp_path: Path, size: int) -> None:
    one, other = keys.create({}), keys.create({})
    plain = content(size)
    first = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": one.arn}
    put = s3.put_object(Bucket="b-1", Key="k", Body=plain, **first)
    wanted: dict[str, dict[str, str]] = {
        "same": first, "other": {**first, "SSEKMSKeyId": other.arn}, "own": {"ServerSideEncryption": "AES256"},
        "default": {},
    }  # fmt: skip
    for name, asked in wanted.items():
        copied = s3.copy_object(Bucket="b-1", Key=name, CopySource="b-1/k", **asked)
        assert copied["ServerSideEncryption"] == asked.get("ServerSideEncryption", "AES256")
        assert copied.get("SSEKMSKeyId") == asked.get("SSEKMSKeyId")
        assert copied["CopyObjectResult"]["ETag"] == put["ETag"]
        assert get(s3, name) == plain
    if size > 100:  # a copy under the same key moves no data
        assert sorted(path.stat().st_nlink for path in blobs(tmp_path)) == [1, 1, 1, 2, 2]
    s3.copy_object(Bucket="b-1", Key="k", CopySource="b-1/k", ServerSideEncryption="AES256")
    keys.change(one, status="Disabled")
    assert get(s3, "k") == get(s3, "other") == plain
    assert refused(s3.get_object, Bucket="b-1", Key="same")[0] == "KMS.DisabledException"


def test_multipart_uploads(s3: Any, keys: Keys) -> None:
    key = keys.create({})
    whole = content(11 * MIB + 5)
    s3.put_object(Bucket="b-1", Key="source", Body=whole)
    sse = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key.name}
    made = s3.create_multipart_upload(Bucket="b-1", Key="k", **sse)
    assert made["SSEKMSKeyId"] == key.arn
    part = {"Bucket": "b-1", "Key": "k", "UploadId": made["UploadId"]}
    sent = s3.upload_part(**part, PartNumber=1, Body=whole[: 5 * MIB])
    copied = s3.upload_part_copy(
        **part, PartNumber=2, CopySource="b-1/source", CopySourceRange=f"bytes={5 * MIB}-{10 * MIB - 1}"
    )
    last = s3.upload_part(**part, PartNumber=3, Body=whole[10 * MIB :])
    assert sent["SSEKMSKeyId"] == copied["SSEKMSKeyId"] == key.arn
    etags = [sent["ETag"], copied["CopyPartResult"]["ETag"], last["ETag"]]
    done = s3.complete_multipart_upload(
        **part, MultipartUpload={"Parts": [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(etags, 1)]}
    )
    digests = b"".join(
        hashlib.md5(piece).digest() for piece in (whole[: 5 * MIB], whole[5 * MIB : 10 * MIB], whole[10 * MIB :])
    )
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert done["SSEKMSKeyId"] == key.arn
    assert get(s3, "k") == whole
    for start, end in ((5 * MIB - 3, 5 * MIB + 3), (0, len(whole) - 1), (65_535, 10 * MIB + 1)):
        assert get(s3, "k", Range=f"bytes={start}-{end}") == whole[start : end + 1]
    assert get(s3, "k", PartNumber=2) == whole[5 * MIB : 10 * MIB]
    s3.copy_object(Bucket="b-1", Key="copy", CopySource="b-1/k")
    assert get(s3, "copy") == whole
    assert get(s3, "copy", PartNumber=3) == whole[10 * MIB :]


def test_a_changed_file_is_never_given_out(s3: Any, tmp_path: Path) -> None:
    plain = content(300_000)
    s3.put_object(Bucket="b-1", Key="k", Body=plain)
    (file,) = blobs(tmp_path)
    stored = bytearray(file.read_bytes())
    stored[200_000] ^= 1
    file.write_bytes(stored)
    with pytest.raises((ClientError, BotoCoreError, ReadTimeoutError)):
        get(s3, "k")
    assert get(s3, "k", Range="bytes=0-1000") == plain[:1001]
    file.write_bytes(stored[:65_552])
    with pytest.raises((ClientError, BotoCoreError, ReadTimeoutError)):
        get(s3, "k")


@pytest.mark.parametrize("size", [10, 100_000])
def test_rows_that_were_swapped_do_not_open(s3: Any, tmp_path: Path, size: int) -> None:
    for name in ("one", "two"):
        s3.put_object(Bucket="b-1", Key=name, Body=content(size))
    with closing(sqlite3.connect(tmp_path / "objects" / "index.db")) as index, index:
        (row,) = index.execute("SELECT details, pieces, inline FROM objects WHERE key = ?", (b"one",))
        index.execute("UPDATE objects SET details = ?, pieces = ?, inline = ? WHERE key = ?", (*row, b"two"))
    assert refused(s3.get_object, Bucket="b-1", Key="two")[0] == "InternalError"
    assert get(s3, "one") == content(size)


def test_a_lost_master_key_is_an_error_that_says_so(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    with serving(chosen) as s3:
        s3.create_bucket(Bucket="b-1")
        s3.put_object(Bucket="b-1", Key="k", Body=b"x")
    kept = chosen.master_keys.read_bytes()
    chosen.master_keys.unlink()
    with serving(chosen) as s3:
        for call, more in ((s3.get_object, {}), (s3.put_object, {"Body": b"y"})):
            code, message = refused(call, Bucket="b-1", Key="k", **more)
            assert (code, str(chosen.master_keys) in message) == ("ServiceUnavailable", True)
        assert s3.head_object(Bucket="b-1", Key="k")["ContentLength"] == 1
        assert not chosen.master_keys.exists()
        chosen.master_keys.touch(mode=0o600)
        chosen.master_keys.write_bytes(kept)
        assert get(s3, "k") == b"x"

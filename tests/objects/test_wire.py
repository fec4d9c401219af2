"""What only bare HTTP can say: bodies in chunks, presigned addresses, virtual hosts, malformed requests."""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from xml.etree import ElementTree

import botocore.auth
import httpx
import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from starlette.types import Scope

from server.objects.crc import CRC32C, CRC64NVME
from server.objects.request import Request, is_object_request
from server.objects.signature import LooseGate
from tests.objects.serving import Served, client

SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
                           "Signature=0"}  # fmt: skip
NUMBERS = count(1)
CONTENT = bytes(range(256)) * 1000
SIGNATURE = "a" * 64


@pytest.fixture(scope="module")
def s3(local: Served) -> Any:
    return client(local.url)


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"wire-{next(NUMBERS)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def http(local: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=local.url, timeout=20) as made:
        yield made


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, ElementTree.fromstring(answer.text).findtext("Code") or ""


def content_of(s3: Any, bucket: str, key: str = "k") -> bytes:
    content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def chunks(content: bytes, size: int, *, signed: bool, trailer: str = "") -> bytes:
    mark = f";chunk-signature={SIGNATURE}" if signed else ""
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    body = b"".join(f"{len(part):x}{mark}\r\n".encode() + part + b"\r\n" for part in parts)
    return body + f"0{mark}\r\n{trailer}\r\n".encode()


def chunked_headers(kind: str, **more: str) -> dict[str, str]:
    return {**SIGNED, "x-amz-content-sha256": kind, "x-amz-decoded-content-length": str(len(CONTENT)),
            "content-encoding": "aws-chunked", **more}  # fmt: skip


CRC = base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()
CRC_C = base64.b64encode(CRC32C.update(CONTENT).to_bytes(4, "big")).decode()
CRC_64 = base64.b64encode(CRC64NVME.update(CONTENT).to_bytes(8, "big")).decode()


@pytest.mark.parametrize("size", [8 * 1024, 65_536, 1_000_000])
def test_signed_chunks(s3: Any, http: httpx.Client, bucket: str, size: int) -> None:
    headers = chunked_headers("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    put = http.put(f"/{bucket}/k", headers=headers, content=chunks(CONTENT, size, signed=True))
    assert (put.status_code, put.headers["etag"]) == (200, f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert content_of(s3, bucket) == CONTENT
    assert "ContentEncoding" not in s3.head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(("name", "value"), [("crc32", CRC), ("crc32c", CRC_C), ("crc64nvme", CRC_64)])
@pytest.mark.parametrize("signed", [False, True])
def test_trailing_checksums(s3: Any, http: httpx.Client, bucket: str, name: str, value: str, signed: bool) -> None:
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" if signed else "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    headers = chunked_headers(kind, **{"x-amz-trailer": f"x-amz-checksum-{name}"})
    ending = f"x-amz-trailer-signature:{SIGNATURE}\r\n" if signed else ""

    def put(checksum: str) -> httpx.Response:
        trailer = f"x-amz-checksum-{name}:{checksum}\r\n{ending}"
        body = chunks(CONTENT, 100_000, signed=signed, trailer=trailer)
        return http.put(f"/{bucket}/k", headers=headers, content=iter([body[:70_000], body[70_000:]]))

    answer = put(value)
    assert (answer.status_code, answer.headers[f"x-amz-checksum-{name}"]) == (200, value)
    assert content_of(s3, bucket) == CONTENT
    head = http.head(f"/{bucket}/k", headers={**SIGNED, "x-amz-checksum-mode": "ENABLED"})
    assert head.headers[f"x-amz-checksum-{name}"] == value
    wrong = value[:-2].replace(value[0], "B" if value[0] == "A" else "A") + value[-2:]
    assert said(put(wrong)) == (400, "BadDigest")
    assert said(put("short")) == (400, "InvalidRequest")


def test_chunks_as_botocore_makes_them(s3: Any, http: httpx.Client, bucket: str) -> None:
    wrapper = AwsChunkedWrapper(io.BytesIO(CONTENT), Crc32Checksum, "x-amz-checksum-crc32", chunk_size=50_000)
    body = b"".join(iter(wrapper.read, b""))
    headers = chunked_headers("STREAMING-UNSIGNED-PAYLOAD-TRAILER", **{"x-amz-trailer": "x-amz-checksum-crc32"})
    assert http.put(f"/{bucket}/k", headers=headers, content=body).headers["x-amz-checksum-crc32"] == CRC
    assert content_of(s3, bucket) == CONTENT


def test_malformed_chunks(s3: Any, http: httpx.Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    headers = chunked_headers("STREAMING-UNSIGNED-PAYLOAD-TRAILER", **{"x-amz-trailer": "x-amz-checksum-crc32"})
    good = chunks(CONTENT, 1000, signed=False, trailer=f"x-amz-checksum-crc32:{CRC}\r\n")
    bad = {
        b"": "IncompleteBody",
        good[:-2]: "IncompleteBody",
        good + b"x": "IncompleteBody",
        good.replace(b"3e8\r\n", b"3e7\r\n", 1): "IncompleteBody",
        good.replace(b"3e8\r\n", b"-5\r\n", 1): "IncompleteBody",
        chunks(CONTENT[:-1], 1000, signed=False, trailer=f"x-amz-checksum-crc32:{CRC}\r\n"): "IncompleteBody",
        chunks(CONTENT + b"x", 1000, signed=False, trailer=f"x-amz-checksum-crc32:{CRC}\r\n"): "IncompleteBody",
        chunks(CONTENT, 1000, signed=False): "MalformedTrailerError",
        chunks(CONTENT, 1000, signed=False, trailer="no colon\r\n"): "MalformedTrailerError",
    }
    for body, expected in bad.items():
        assert said(http.put(f"/{bucket}/k", headers=headers, content=body)) == (400, expected), body[-60:]
    unsigned = http.put(f"/{bucket}/k", headers=chunked_headers("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), content=good)
    assert said(unsigned) == (400, "IncompleteBody")
    assert said(http.put(f"/{bucket}/k", headers=chunked_headers("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"),
                         content=good)) == (501, "NotImplemented")  # fmt: skip
    assert content_of(s3, bucket) == b"old"


def test_payload_hash_and_length(s3: Any, http: httpx.Client, bucket: str) -> None:
    wrong = {**SIGNED, "x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}
    assert said(http.put(f"/{bucket}/k", headers=wrong, content=b"this")) == (400, "XAmzContentSHA256Mismatch")
    assert said(http.put(f"/{bucket}/k", headers=SIGNED, content=iter([b"no length"]))) == (411, "MissingContentLength")
    huge = {**SIGNED, "content-length": str(5 * 1024**3 + 1)}
    assert said(_without_body(http, f"/{bucket}/k", huge)) == (400, "EntityTooLarge")
    many = {**SIGNED, "x-amz-checksum-crc32": CRC, "x-amz-checksum-crc32c": CRC_C}
    assert said(http.put(f"/{bucket}/k", headers=many, content=CONTENT)) == (400, "InvalidRequest")
    alone = {**SIGNED, "x-amz-sdk-checksum-algorithm": "CRC32"}
    assert said(http.put(f"/{bucket}/k", headers=alone, content=CONTENT)) == (400, "InvalidRequest")
    other = {**SIGNED, "x-amz-checksum-xxhash64": "AAAAAAAAAAA="}
    assert said(http.put(f"/{bucket}/k", headers=other, content=CONTENT)) == (501, "NotImplemented")
    large = {**SIGNED, **{f"x-filler-{number}": "x" * 4000 for number in range(5)}}
    assert said(http.get(f"/{bucket}/k", headers=large)) == (400, "RequestHeaderSectionTooLarge")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def _without_body(http: httpx.Client, path: str, headers: dict[str, str]) -> httpx.Response:
    """PUT whose body never comes: the answer must not wait for it."""
    lines = [f"PUT {path} HTTP/1.1", f"host: {http.base_url.host}", "expect: 100-continue",
             *(f"{name}: {value}" for name, value in headers.items())]  # fmt: skip
    with socket.create_connection((http.base_url.host, http.base_url.port or 80), timeout=10) as plain:
        plain.sendall("\r\n".join([*lines, "", ""]).encode())
        text = b""
        while part := plain.recv(65536):
            text += part
    head, _, body = text.partition(b"\r\n\r\n")
    return httpx.Response(int(head.split()[1]), content=body)


def test_expect_continue_is_answered(http: httpx.Client, s3: Any, bucket: str) -> None:
    with socket.create_connection((http.base_url.host, http.base_url.port or 80), timeout=10) as plain:
        head = f"PUT /{bucket}/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n"
        plain.sendall(f"{head}authorization: {SIGNED['authorization']}\r\n\r\n".encode())
        assert plain.recv(100).startswith(b"HTTP/1.1 100")
        plain.sendall(b"body")
        assert plain.recv(100).startswith(b"HTTP/1.1 200")
    assert content_of(s3, bucket) == b"body"


def test_presigned_addresses(s3: Any, local: Served, bucket: str) -> None:
    short = []
    for version in ("s3v4", "s3"):
        signer = client(local.url, signature_version=version)
        named = {"Bucket": bucket, "Key": "a ü/k"}
        up = signer.generate_presigned_url("put_object", Params=named, ExpiresIn=60)
        down = signer.generate_presigned_url("get_object", Params={**named, "ResponseContentType": "a/b"}, ExpiresIn=60)
        assert httpx.put(up, content=version.encode()).status_code == 200
        got = httpx.get(down)
        assert (got.content, got.headers["content-type"]) == (version.encode(), "a/b")
        with pytest.MonkeyPatch.context() as patch:  # signs ten seconds ago
            past = datetime.now(UTC) - timedelta(seconds=10)
            patch.setattr(botocore.auth, "get_current_datetime", lambda past=past: past.replace(tzinfo=None))
            patch.setattr(botocore.auth.time, "time", past.timestamp)
            short.append(signer.generate_presigned_url("get_object", Params=named, ExpiresIn=1))
    for url in short:
        assert said(httpx.get(url)) == (403, "AccessDenied")
        assert "expired" in httpx.get(url).text


def test_presigned_addresses_that_say_too_little() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    gate = LooseGate(lambda: now)
    good = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": "me/20260102/us-east-1/s3/aws4_request",
            "X-Amz-Date": "20260102T030000Z", "X-Amz-Expires": "300", "X-Amz-SignedHeaders": "host",
            "X-Amz-Signature": "0"}  # fmt: skip

    def refusal(**changed: str) -> str:
        query = {**good, **{f"X-Amz-{name}": value for name, value in changed.items()}}
        with pytest.raises(Exception, match=r".") as caught:
            gate.admit(Request("GET", "b", "k", query, {}, "/b/k"))
        return str(caught.value.code)  # type: ignore[attr-defined]

    assert gate.admit(Request("GET", "b", "k", good, {}, "/b/k")).access_key == "me"
    for name in ("Algorithm", "Date", "Expires", "SignedHeaders", "Signature"):
        assert refusal(**{name: ""}) == "AuthorizationQueryParametersError"
    for expires in ("0", "604801", "x", "-5"):
        assert refusal(Expires=expires) == "AuthorizationQueryParametersError"
    assert refusal(Date="yesterday") == "AuthorizationQueryParametersError"
    assert refusal(Expires="200") == "AccessDenied"
    assert refusal(Date=(now + timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")) == "AccessDenied"


def test_virtual_hosts(s3: Any, http: httpx.Client, bucket: str) -> None:
    host = {**SIGNED, "host": f"{bucket}.localhost:8080"}
    assert http.put("/a/b", headers=host, content=b"virtual").status_code == 200
    assert content_of(s3, bucket, "a/b") == b"virtual"
    assert http.get("/a/b", headers=host).content == b"virtual"
    listing = http.get("/?list-type=2", headers=host)
    assert listing.status_code == 200
    assert "<Key>a/b</Key>" in listing.text


def test_unsigned_requests_and_foreign_methods(http: httpx.Client, bucket: str) -> None:
    assert said(http.get(f"/{bucket}/k")) == (403, "AccessDenied")
    assert said(http.request("PATCH", f"/{bucket}/k", headers=SIGNED)) == (405, "MethodNotAllowed")
    assert said(http.post(f"/{bucket}", headers=SIGNED, content=b"form")) == (501, "NotImplemented")
    assert said(http.put(f"/{bucket}/k?uploadId=1", headers=SIGNED, content=b"x")) == (501, "NotImplemented")
    assert said(http.get(f"/{bucket}/%ff", headers=SIGNED)) == (400, "InvalidURI")
    assert said(http.get(f"/{bucket}?max-keys=many", headers=SIGNED)) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    "document",
    [b"<Delete", b"<Delete><Object></Object></Delete>", b"<Delete><Other/></Delete>", b"\xff\xfe<",
     b'<!DOCTYPE a [<!ENTITY b "c">]><Delete><Object><Key>&b;</Key></Object></Delete>',
     b"<Delete><Object><Key>k</Key></Object><Quiet>perhaps</Quiet></Delete>", b"<a>" * 100_000],
)  # fmt: skip
def test_malformed_documents(s3: Any, http: httpx.Client, bucket: str, document: bytes) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    headers = {**SIGNED, "content-md5": base64.b64encode(hashlib.md5(document).digest()).decode()}
    assert said(http.post(f"/{bucket}?delete", headers=headers, content=document)) == (400, "MalformedXML")
    assert said(http.post(f"/{bucket}?delete", headers=SIGNED, content=document)) == (400, "InvalidRequest")
    assert content_of(s3, bucket) == b""


def test_answers_carry_an_id_and_errors_name_their_resource(http: httpx.Client, bucket: str) -> None:
    answer = http.get(f"/{bucket}/none", headers={**SIGNED, "x-request-id": "my-id"})
    root = ElementTree.fromstring(answer.text)
    assert (root.findtext("RequestId"), root.findtext("Key"), root.findtext("Resource")) == (
        "my-id", "none", f"/{bucket}/none")  # fmt: skip
    assert answer.headers["x-amz-request-id"] == "my-id"
    assert answer.headers["content-type"] == "application/xml"


def scope(path: str = "/b/k", query: str = "", **headers: str) -> Scope:
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": lines}


def test_what_is_told_apart() -> None:
    signed = "AWS4-HMAC-SHA256 Credential=a/20260101/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=0"
    assert is_object_request(scope(authorization=signed.format("s3")))
    assert is_object_request(scope(authorization="AWS me:sig"))
    assert is_object_request(scope(query="X-Amz-Credential=a%2F20260101%2Feu-west-1%2Fs3%2Faws4_request"))
    assert is_object_request(scope(query="AWSAccessKeyId=a&Signature=b&Expires=1"))
    assert is_object_request(scope(host="bucket.hearth.example:8080"), ["hearth.example"])
    assert not is_object_request(scope(host="hearth.example"), ["hearth.example"])
    assert not is_object_request(scope(authorization=signed.format("sagemaker")))
    assert not is_object_request(scope(authorization="Bearer AWS"))
    assert not is_object_request(scope(query="X-Amz-Credential=a%2F20260101%2Feu-west-1%2Fsts%2Faws4_request"))
    assert not is_object_request(scope())


def test_answers_named_in_the_address(s3: Any, local: Served, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    def named(disposition: str) -> httpx.Response:
        params = {"Bucket": bucket, "Key": "k", "ResponseContentDisposition": disposition}
        return httpx.get(s3.generate_presigned_url("get_object", Params=params))

    answer = named('attachment; filename="日本.csv"')
    assert 'attachment; filename="日本.csv"'.encode() in dict(answer.headers.raw).values()
    assert said(named("a\r\nset-cookie: b=c")) == (400, "InvalidArgument")


def test_what_has_not_changed_is_named(s3: Any, http: httpx.Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    answer = http.get(f"/{bucket}/k", headers={**SIGNED, "if-none-match": etag})
    assert (answer.status_code, answer.headers["etag"], answer.content) == (304, etag, b"")

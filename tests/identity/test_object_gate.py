"""Real S3 clients at an object store that asks who they are, over HTTP and over TLS."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import itertools
import ssl
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.identity.object_gate import StrictGate
from server.objects.app import ObjectsApp
from server.objects.opening import open_storage
from server.settings import Settings
from server.store.migrate import migrate
from server.store.store import connect as open_store
from tests.identity.chunking import framed, headers
from tests.identity.signing import ENDED, KEYS, KNOWN, SESSION, NamedPayload
from tests.objects.serving import Served

NUMBERS = itertools.count(1)
CONTENT = bytes(range(256)) * 1000
PARTS = [CONTENT[:100_000], CONTENT[100_000:]]
CRC = base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()


def certificate(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls") / "localhost.pem")


BOTH = pytest.mark.parametrize("served", ["http", "https"], indirect=True)


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pem: Path) -> Iterator[Served]:
    settings = Settings(state_dir=tmp_path_factory.mktemp("strict"))
    migrate(open_store(settings.database))  # the keys of what is encrypted are there
    app = ObjectsApp(open_storage(settings), StrictGate(KNOWN.get), ())
    made = Served(app, tls=pem if getattr(request, "param", "http") == "https" else None)
    yield made
    made.close()


class Connect(Protocol):
    def __call__(self, keys: Credentials = KEYS, *, url: str = "", **choices: Any) -> Any: ...


@pytest.fixture
def connect(served: Served, pem: Path) -> Iterator[Connect]:
    """Makes boto3 clients of a caller; closed at the end, for a server waits for open connections."""
    with ExitStack() as stack:

        def client(keys: Credentials = KEYS, *, url: str = "", **choices: Any) -> Any:
            options = {"retries": {"total_max_attempts": 1}, "read_timeout": 20, "connect_timeout": 5,
                       "signature_version": "s3v4", "s3": {"addressing_style": "path"}, **choices}  # fmt: skip
            made = boto3.client(
                "s3", endpoint_url=url or served.url, region_name="us-east-1", verify=str(pem),
                aws_access_key_id=keys.access_key, aws_secret_access_key=keys.secret_key,
                aws_session_token=keys.token, config=Config(**options),
            )  # fmt: skip
            stack.callback(made.close)
            return made

        yield client


@pytest.fixture
def s3(connect: Connect) -> Any:
    return connect()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"strict-{next(NUMBERS)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def http(served: Served, pem: Path) -> Iterator[httpx.Client]:

    with httpx.Client(base_url=served.url, verify=ssl.create_default_context(cafile=str(pem))) as made:
        yield made


@BOTH
@pytest.mark.parametrize("keys", [KEYS, SESSION])
@pytest.mark.parametrize("checksum", ["CRC32", "SHA1", "SHA256"])
def test_what_boto3_does(connect: Connect, bucket: str, keys: Credentials, checksum: str) -> None:
    s3, key = connect(keys), "a folder/naïve (1)+~'!*%2F?#&=.bin"
    put = s3.put_object(Bucket=bucket, Key=key, Body=CONTENT, ChecksumAlgorithm=checksum, Metadata={"note": "a  b"})
    assert put[f"Checksum{checksum}"]
    got = s3.get_object(Bucket=bucket, Key=key)
    assert (got["Body"].read(), got["Metadata"]) == (CONTENT, {"note": "a  b"})
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(CONTENT)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="a folder/n", Delimiter="/")
    assert [found["Key"] for found in listed["Contents"]] == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})["Deleted"]


@BOTH
def test_streams_and_parts(s3: Any, served: Served, bucket: str, tmp_path: Path) -> None:
    """Over TLS boto3 sends these in chunks with an unsigned checksum behind them."""
    payloads: list[str] = []
    s3.meta.events.register(
        "before-send.s3.*", lambda request, **_: payloads.append(request.headers["X-Amz-Content-SHA256"].decode())
    )
    content = CONTENT * 48
    (tmp_path / "file").write_bytes(content)
    parts = TransferConfig(multipart_threshold=6 * 1024**2, multipart_chunksize=5 * 1024**2)
    s3.upload_file(str(tmp_path / "file"), bucket, "parts", Config=parts)
    assert s3.get_object(Bucket=bucket, Key="parts")["Body"].read() == content
    assert s3.head_object(Bucket=bucket, Key="parts")["ETag"].endswith('-3"')
    with (tmp_path / "file").open("rb") as stream:
        s3.put_object(Bucket=bucket, Key="stream", Body=stream)
    assert s3.head_object(Bucket=bucket, Key="stream")["ContentLength"] == len(content)
    trailed = payloads.count("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert trailed == (4 if served.url.startswith("https") else 0)


@BOTH
def test_a_stream_with_the_wrong_secret(served: Served, connect: Connect, bucket: str) -> None:
    with pytest.raises(ClientError) as caught:
        connect(Credentials(KEYS.access_key, "wrong")).put_object(Bucket=bucket, Key="k", Body=b"content")
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("keys", "code", "status"),
    [
        (Credentials(KEYS.access_key, "wrong"), "SignatureDoesNotMatch", 403),
        (Credentials("AKIANOBODY", "wrong"), "InvalidAccessKeyId", 403),
        (Credentials(SESSION.access_key, SESSION.secret_key), "InvalidToken", 400),
        (Credentials(SESSION.access_key, SESSION.secret_key, "other"), "InvalidToken", 400),
        (ENDED, "ExpiredToken", 400),
    ],
)
def test_who_is_refused(connect: Connect, bucket: str, keys: Credentials, code: str, status: int) -> None:
    s3 = connect(keys)
    calls: list[Callable[[], Any]] = [s3.list_buckets, lambda: s3.put_object(Bucket=bucket, Key="k", Body=CONTENT)]
    for call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket=bucket)
    assert caught.value.response["Error"]["Code"] == str(status)


def test_version_two_is_refused(connect: Connect, bucket: str, http: httpx.Client) -> None:
    with pytest.raises(ClientError, match="Please use AWS4-HMAC-SHA256") as caught:
        connect(KEYS, signature_version="s3").list_objects_v2(Bucket=bucket)
    assert caught.value.response["Error"]["Code"] == "InvalidRequest"
    # What boto3 makes of an address in us-east-1 unless told otherwise.
    address = connect(KEYS, signature_version=None).generate_presigned_url("list_buckets")
    assert "signature_version='s3v4'" in http.get(address).text


@BOTH
def test_presigned_addresses(connect: Connect, s3: Any, bucket: str, http: httpx.Client) -> None:
    at = {"Bucket": bucket, "Key": "a b+c"}
    assert http.put(s3.generate_presigned_url("put_object", at), content=b"new").status_code == 200
    read = connect(SESSION).generate_presigned_url("get_object", at, 60)
    assert "X-Amz-Security-Token=" in read
    assert http.get(read).content == b"new"
    assert http.delete(read).text.count("<Code>SignatureDoesNotMatch</Code>") == 1
    assert "<Code>SignatureDoesNotMatch</Code>" in http.get(read.replace("%2Bc", "%2Bd")).text
    assert "<HeadersNotSigned>x-amz-acl</HeadersNotSigned>" in http.get(read, headers={"x-amz-acl": "private"}).text
    assert http.get(f"/{bucket}/a").status_code == 403


def test_unsigned_and_other_services(http: httpx.Client) -> None:
    refused = http.get("/", headers={"authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/sagemaker/aws4_request"})
    assert (refused.status_code, "<Code>AuthorizationHeaderMalformed</Code>" in refused.text) == (400, True)
    assert "<Code>AccessDenied</Code>" in http.get("/").text


@pytest.mark.parametrize("trailed", [False, True])
def test_signed_chunks(s3: Any, http: httpx.Client, served: Served, bucket: str, trailed: bool) -> None:
    trailers = {"x-amz-checksum-crc32": CRC} if trailed else {}
    url = f"{served.url}/{bucket}/chunks"
    fields, chain, seed = headers(url, KEYS, PARTS, trailers)
    chunks = chain.chunks(PARTS, seed)
    lines = [f"{name}:{value}\r\n" for name, value in trailers.items()]
    if trailed:
        lines.append(f"x-amz-trailer-signature:{chain.trailer(trailers, chunks[-1][1])}\r\n")
    good = framed(chunks, lines)
    altered = bytes([*good[:300], good[300] ^ 1]) + good[301:]
    swapped = framed([chunks[1], chunks[0], chunks[2]], lines)
    bad = {altered: "SignatureDoesNotMatch", swapped: "SignatureDoesNotMatch", good[:150_000]: "IncompleteBody"}
    if trailed:
        bad[framed(chunks, lines[:1])] = "MalformedTrailerError"
        bad[framed(chunks, [lines[0].replace(CRC, "AAAAAA=="), lines[1]])] = "SignatureDoesNotMatch"
    for body, code in bad.items():
        answer = http.put(url, headers=fields, content=body)
        assert f"<Code>{code}</Code>" in answer.text
        with pytest.raises(ClientError, match="404"):
            s3.head_object(Bucket=bucket, Key="chunks")
    assert http.put(url, headers=fields, content=good).status_code == 200
    assert s3.get_object(Bucket=bucket, Key="chunks")["Body"].read() == CONTENT


def of_payload(url: str, payload: str) -> dict[str, str]:
    request = AWSRequest("PUT", url)
    NamedPayload(KEYS, payload).add_auth(request)
    return {name: str(value) for name, value in request.headers.items()}


def test_a_body_other_than_signed(s3: Any, http: httpx.Client, served: Served, bucket: str) -> None:
    fields = of_payload(f"{served.url}/{bucket}/k", hashlib.sha256(b"right").hexdigest())
    assert "<Code>XAmzContentSHA256Mismatch</Code>" in http.put(f"/{bucket}/k", headers=fields, content=b"wrong").text
    assert http.put(f"/{bucket}/k", headers=fields, content=b"right").status_code == 200
    for value in ("something", "f" * 63):
        fields = of_payload(f"{served.url}/{bucket}/k", value)
        assert "<Code>InvalidArgument</Code>" in http.put(f"/{bucket}/k", headers=fields, content=b"right").text


def test_skew_and_ends(connect: Connect, http: httpx.Client, tmp_path: Path) -> None:
    """The same requests at a store whose clock is another."""
    late = {"s": 0.0}
    gate = StrictGate(KNOWN.get, now=lambda: datetime.now(UTC).timestamp() + late["s"])
    other = Served(ObjectsApp(open_storage(Settings(state_dir=tmp_path)), gate, ()))
    try:
        made = connect(url=other.url)
        made.create_bucket(Bucket="skewed")
        address = made.generate_presigned_url("list_objects_v2", {"Bucket": "skewed"}, ExpiresIn=3600)
        late["s"] = 3500.0
        assert http.get(address).status_code == 200
        with pytest.raises(ClientError) as caught:
            made.list_buckets()
        assert caught.value.response["Error"]["Code"] == "RequestTimeTooSkewed"
        assert caught.value.response["Error"]["MaxAllowedSkewMilliseconds"] == "900000"
        late["s"] = 3610.0
        assert "<Message>Request has expired</Message>" in http.get(address).text
        late["s"] = -2000.0
        assert "<Message>Request is not valid yet</Message>" in http.get(address).text
    finally:
        made.close()
        http.close()
        other.close()

"""S3 requests of every operation in its model, signed for S3 or presigned in form alone."""

from __future__ import annotations

from random import Random
from urllib.parse import quote
from xml.sax.saxutils import escape

from benchmarks.fuzz import values
from benchmarks.fuzz.aws import signed
from benchmarks.fuzz.wire import Sent
from server.objects.local import store  # importing it fills the registry
from server.objects.local.registry import OPERATIONS
from server.objects.operations import ROUTES

assert store.MODULES
BUILT = tuple(route for route in ROUTES if route.operation.name in OPERATIONS)
BUCKETS = ("models", "b-1", "second.bucket", "endpoints", "-", "..", "A", "192.168.0.1", "xn--a", "a" * 70)
KEYS = ("a", "k/1", "model.tar.gz", "..", "../../etc/passwd", "a//b", "é", "\0", "a" * 1024, "a" * 1025, "%2e", " ",
        "+")
PARAMETERS = ("prefix", "delimiter", "marker", "max-keys", "start-after", "continuation-token", "encoding-type",
              "list-type",
              "partNumber", "uploadId", "versionId", "fetch-owner", "response-content-type", "max-parts",
              "part-number-marker", "X-Amz-Expires", "X-Amz-Date")  # fmt: skip
DOCUMENTS = (
    "<Delete><Object><Key>{0}</Key></Object></Delete>",
    "<Delete>" + "<Object><Key>{0}</Key></Object>" * 1001 + "</Delete>",
    "<CompleteMultipartUpload><Part><PartNumber>{0}</PartNumber><ETag>{0}</ETag></Part></CompleteMultipartUpload>",
    "<CreateBucketConfiguration><LocationConstraint>{0}</LocationConstraint></CreateBucketConfiguration>",
    "<Tagging><TagSet><Tag><Key>{0}</Key><Value>{0}</Value></Tag></TagSet></Tagging>",
    '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><Delete>&y;</Delete>',
    "<a>" * 3000, "<Delete/>", "<Delete", "{0}", "\ufeff<Delete/>",
)  # fmt: skip


def call(random: Random) -> Sent:
    route = random.choice(BUILT if random.random() < 0.85 else ROUTES)
    bucket = random.choice(BUCKETS) if random.random() < 0.3 else BUCKETS[random.randrange(2)]
    key = random.choice(KEYS) if random.random() < 0.5 else KEYS[random.randrange(3)]
    path = route.path.replace("{Bucket}", _quoted(bucket, random)).replace("{Key+}", _quoted(key, random))
    query = [f"{name}={value}" if value else name for name, value in route.fixed.items()]
    query += [f"{name}={_value(random)}" for name in route.needed]
    query += [f"{name}={_value(random)}" for name in PARAMETERS if random.random() < 0.03]
    sent = Sent("s3", "door", route.method.encode(), f"{path}?{'&'.join(query)}".encode("utf-8", "replace"))
    sent.fields += [(name.encode(), b"/models/a") for name in route.headers]
    if random.random() < 0.9:
        sent.fields.append(signed("s3", random))
    else:
        sent.path += b"&X-Amz-Credential=a/20260101/us-east-1/s3/aws4_request&X-Amz-Signature=0"
    if route.method in ("PUT", "POST"):
        sent.body = _body(random)
    return sent


def _body(random: Random) -> bytes:
    if random.random() < 0.4:
        return random.randbytes(random.choice((0, 1, 100, 70_000)))
    text = values.text(random).encode("utf-8", "replace").decode()
    return random.choice(DOCUMENTS).replace("{0}", escape(text[:2000])).encode()


def _value(random: Random) -> str:
    return quote(random.choice(("1", "2", "a", "url", "/", values.text(random)[:2000])), errors="surrogatepass")


def _quoted(text: str, random: Random) -> str:
    return quote(text, safe="/" if random.random() < 0.8 else "", errors="replace")

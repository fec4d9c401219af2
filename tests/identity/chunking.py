"""Bodies in signed chunks, as S3's documentation says to make them. What no client here makes is made here."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from server.identity.sigv4 import signing_key
from tests.identity.signing import NamedPayload

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
EMPTY = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class Chain:
    """Signs what follows a request that was signed."""

    key: bytes
    date: str
    region: str

    def follow(self, kind: str, previous: str, hashes: str) -> str:
        scope = f"{self.date[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256-{kind}\n{self.date}\n{scope}\n{previous}\n{hashes}"
        return hmac.new(self.key, text.encode(), "sha256").hexdigest()

    def chunks(self, parts: Sequence[bytes], seed: str) -> list[tuple[bytes, str]]:
        """Each with its signature, the empty last one too."""
        made = []
        for part in (*parts, b""):
            seed = self.follow("PAYLOAD", seed, f"{EMPTY}\n{hashlib.sha256(part).hexdigest()}")
            made.append((part, seed))
        return made

    def trailer(self, trailers: Mapping[str, str], previous: str) -> str:
        text = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        return self.follow("TRAILER", previous, hashlib.sha256(text.encode()).hexdigest())


def framed(chunks: Sequence[tuple[bytes, str]], trailers: Sequence[str] = (), end: str = "\r\n") -> bytes:
    """`chunks` and `trailers` on the wire; the last chunk is to be the empty one."""
    body = b"".join(
        f"{len(part):x};chunk-signature={signature}\r\n".encode() + (part + b"\r\n" if part else b"")
        for part, signature in chunks
    )
    return body + "".join(trailers).encode() + end.encode()


def headers(
    url: str, keys: Credentials, parts: Sequence[bytes], trailers: Mapping[str, str], **more: str
) -> tuple[dict[str, str], Chain, str]:
    """Of a signed PUT of `parts` to `url`; what signs its chunks; its own signature."""
    kind = SIGNED + ("-TRAILER" if trailers else "")
    given = {"x-amz-decoded-content-length": str(sum(map(len, parts))),
             "content-encoding": "aws-chunked", **more}  # fmt: skip
    if trailers:
        given["x-amz-trailer"] = ",".join(trailers)
    request = AWSRequest("PUT", url, headers=given)
    NamedPayload(keys, kind).add_auth(request)
    date = str(request.headers["X-Amz-Date"])
    chain = Chain(signing_key(keys.secret_key, date[:8], "us-east-1", "s3"), date, "us-east-1")
    signature = str(request.headers["Authorization"]).rpartition("Signature=")[2]
    return {name: str(value) for name, value in request.headers.items()}, chain, signature

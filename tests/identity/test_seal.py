"""Signed chunks and trailers: S3's documented examples, and what breaks the chain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.identity.canonical import Sent
from server.identity.credential import Credential
from server.identity.object_gate import StrictGate
from server.identity.sigv4 import signing_key
from server.objects.chunked import ChunkedDecoder
from server.objects.errors import ObjectError
from server.objects.seal import Seal
from tests.identity.chunking import Chain, framed
from tests.identity.signing import as_object_request

DATE, NOW = "20130524T000000Z", 1369353600.0
KEY = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3")
SCOPE = "20130524/us-east-1/s3/aws4_request"
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
PARTS = [b"a" * 65536, b"a" * 1024]
CHUNKS = [
    (PARTS[0], "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (PARTS[1], "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
]
TRAILED_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
TRAILED = [
    (PARTS[0], "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
    (PARTS[1], "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
    (b"", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
]
CHECKSUM = "x-amz-checksum-crc32c:sOO8/Q=="
TRAILER_SIGNATURE = "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
CHAIN = Chain(KEY, DATE, "us-east-1")


def decoded(body: bytes, seed: str, step: int = 70_000) -> tuple[bytes, dict[str, str]]:
    decoder = ChunkedDecoder(signed=True, seal=Seal(KEY, DATE, SCOPE, seed))
    out = b"".join(decoder.feed(body[at : at + step]) for at in range(0, len(body), step))
    if not decoder.finished:
        raise ObjectError("IncompleteBody")
    return out, decoder.trailers


def test_the_documented_example() -> None:
    """`Transferring Payload in Multiple Chunks`: the request itself, then its chunks."""
    credential = Credential("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "1", "arn")
    named = ("content-encoding", "content-length", "host", "x-amz-content-sha256", "x-amz-date",
             "x-amz-decoded-content-length", "x-amz-storage-class")  # fmt: skip
    values = ("aws-chunked", "66824", "s3.amazonaws.com", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", DATE, "66560",
              "REDUCED_REDUNDANCY")  # fmt: skip
    authorization = (f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{SCOPE},SignedHeaders={';'.join(named)},"
                     f"Signature={SEED}")  # fmt: skip
    fields = [(name.encode(), value.encode()) for name, value in zip(named, values, strict=True)]
    sent = Sent("PUT", b"/examplebucket/chunkObject.txt", b"", [*fields, (b"authorization", authorization.encode())])
    gate = StrictGate({credential.access_key: credential}.get, now=lambda: NOW)
    assert gate.admit(as_object_request(sent)).seal == Seal(KEY, DATE, SCOPE, SEED)
    assert CHAIN.chunks(PARTS, SEED) == CHUNKS
    assert decoded(framed(CHUNKS), SEED) == (b"a" * 66560, {})
    assert len(framed(CHUNKS)) == 66824


@pytest.mark.parametrize("lines", [(f"{CHECKSUM}\r\n",), (f"{CHECKSUM}\n", "\r\n"), (f"{CHECKSUM}\n",)])
def test_the_documented_trailer(lines: tuple[str, ...]) -> None:
    """`Including Trailing Headers`, in the ways that clients end the line before the trailer's signature."""
    body = framed(TRAILED, [*lines, f"{TRAILER_SIGNATURE}\r\n"])
    assert decoded(body, TRAILED_SEED) == (b"a" * 66560, {"x-amz-checksum-crc32c": "sOO8/Q=="})


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=5), st.integers(1, 100), st.booleans())
@settings(deadline=None)
def test_any_chunks_in_any_pieces(parts: list[bytes], step: int, trailed: bool) -> None:
    chunks = CHAIN.chunks(parts, SEED)
    trailers = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha1": "x"} if trailed else {}
    lines = [f"{name}:{value}\r\n" for name, value in trailers.items()]
    if trailed:
        lines.append(f"x-amz-trailer-signature:{CHAIN.trailer(trailers, chunks[-1][1])}\r\n")
    assert decoded(framed(chunks, lines), SEED, step) == (b"".join(parts), trailers)


def _flipped(signature: str) -> str:
    return f"{int(signature[0], 16) ^ 1:x}{signature[1:]}"


BROKEN = {
    "reordered": framed([CHUNKS[1], CHUNKS[0], CHUNKS[2]]),
    "one left out": framed([CHUNKS[0], CHUNKS[2]]),
    "one twice": framed([CHUNKS[0], CHUNKS[0], *CHUNKS[1:]]),
    "another byte": framed([(b"b" + PARTS[0][1:], CHUNKS[0][1]), *CHUNKS[1:]]),
    "cut elsewhere": framed([(PARTS[0] + b"a", CHUNKS[0][1]), (PARTS[1][1:], CHUNKS[1][1]), CHUNKS[2]]),
    "a bit of a signature": framed([(PARTS[0], _flipped(CHUNKS[0][1])), *CHUNKS[1:]]),
    "a bit of the last": framed([*CHUNKS[:2], (b"", _flipped(CHUNKS[2][1]))]),
    "of another request": framed([*TRAILED]),
    "ended early": framed([CHUNKS[0], (b"", CHUNKS[2][1])]),
    "a trailer added": framed(CHUNKS, [f"{CHECKSUM}\r\n"]),
    "a signature of no trailers": framed(CHUNKS, ["x-amz-trailer-signature:" + "0" * 64 + "\r\n"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_chain(name: str) -> None:
    with pytest.raises(ObjectError) as caught:
        decoded(BROKEN[name], SEED)
    assert caught.value.code == ("MalformedTrailerError" if name == "a trailer added" else "SignatureDoesNotMatch")


@pytest.mark.parametrize("kept", [0, 50, 65600, 66800, -3])
def test_a_truncated_body(kept: int) -> None:
    with pytest.raises(ObjectError) as caught:
        decoded(framed(CHUNKS)[:kept], SEED)
    assert caught.value.code == "IncompleteBody"


TRAILERS = {
    "another value": ["x-amz-checksum-crc32c:sOO8/A==\r\n", f"{TRAILER_SIGNATURE}\r\n"],
    "another name": ["x-amz-checksum-crc32:sOO8/Q==\r\n", f"{TRAILER_SIGNATURE}\r\n"],
    "one more": [f"{CHECKSUM}\r\n", "x-amz-checksum-sha1:x\r\n", f"{TRAILER_SIGNATURE}\r\n"],
    "twice": [f"{CHECKSUM}\r\n", f"{CHECKSUM}\r\n", f"{TRAILER_SIGNATURE}\r\n"],
    "no signature": [f"{CHECKSUM}\r\n"],
    "none": [f"{TRAILER_SIGNATURE}\r\n"],
    "a bit of the signature": [f"{CHECKSUM}\r\n", f"{TRAILER_SIGNATURE[:-1]}4\r\n"],
}


@pytest.mark.parametrize("name", TRAILERS)
def test_an_altered_trailer(name: str) -> None:
    with pytest.raises(ObjectError) as caught:
        decoded(framed(TRAILED, TRAILERS[name]), TRAILED_SEED)
    malformed = name in ("twice", "no signature")
    assert caught.value.code == ("MalformedTrailerError" if malformed else "SignatureDoesNotMatch")

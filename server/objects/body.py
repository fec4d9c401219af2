"""A request's body on its way in: decoded, counted and checked against everything its headers promise."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from server.objects import checksums
from server.objects.checksums import Digest
from server.objects.chunked import ChunkedDecoder
from server.objects.errors import ObjectError
from server.objects.seal import Seal

MAX_PUT_BYTES = 5 * 1024**3
"""Of one PutObject or one part."""

_CHUNKED = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": True,
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": True,
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": False,
}
"""Bodies in chunks, and whether each chunk is signed."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the headers say of the body."""

    size: int
    """Of the content, not of its chunks."""
    arriving: int
    """Of what is sent, chunks included; `size` when the length of that is not said."""
    signed_chunks: bool | None
    """None: the body is no aws-chunked one."""
    md5: bytes | None
    sha256: str | None
    checksums: Mapping[str, str]
    trailing: tuple[str, ...]
    """Algorithms whose checksum follows as a trailer."""


def promise(headers: Mapping[str, str]) -> Promise:
    """Raises MissingContentLength, EntityTooLarge, InvalidDigest, InvalidRequest, NotImplemented."""
    kind = headers.get("x-amz-content-sha256", "")
    if kind.startswith("STREAMING-") and kind not in _CHUNKED:
        raise ObjectError("NotImplemented", f"x-amz-content-sha256: {kind} is not implemented.")
    chunked = kind in _CHUNKED
    length = headers.get("x-amz-decoded-content-length" if chunked else "content-length")
    if length is None or not re.fullmatch(r"\d{1,18}", length):
        name = "x-amz-decoded-content-length" if chunked else "Content-Length"
        raise ObjectError("MissingContentLength", f"You must provide the {name} HTTP header.")
    if int(length) > MAX_PUT_BYTES:
        raise ObjectError("EntityTooLarge", ProposedSize=length, MaxSizeAllowed=str(MAX_PUT_BYTES))
    sent, announced = _sent(headers), _announced(headers.get("x-amz-trailer", ""))
    if headers.get("x-amz-sdk-checksum-algorithm") and not (sent or announced):
        raise ObjectError("InvalidRequest", "x-amz-sdk-checksum-algorithm specified, but no corresponding "
                                            "x-amz-checksum-* or x-amz-trailer headers were found.")  # fmt: skip
    return Promise(
        size=int(length),
        arriving=int(headers["content-length"]) if headers.get("content-length", "").isdigit() else int(length),
        signed_chunks=_CHUNKED.get(kind),
        md5=_md5(headers.get("content-md5")),
        sha256=kind.lower() if re.fullmatch(r"[0-9A-Fa-f]{64}", kind) else None,
        checksums=sent,
        trailing=announced,
    )


def _md5(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        value = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != 16:
        raise ObjectError("InvalidDigest")
    return value


def _sent(headers: Mapping[str, str]) -> dict[str, str]:
    prefix = "x-amz-checksum-"
    names = {
        name.removeprefix(prefix).upper(): value
        for name, value in headers.items()
        if name.startswith(prefix) and name not in (prefix + "algorithm", prefix + "mode", prefix + "type")
    }
    if len(names) > 1:
        raise ObjectError("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are "
                                            "not allowed.")  # fmt: skip
    return {algorithm: checksums.parse(algorithm, value.strip()) for algorithm, value in names.items()}


def _announced(text: str) -> tuple[str, ...]:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    prefix = "x-amz-checksum-"
    if other := [name for name in names if not name.startswith(prefix)]:
        raise ObjectError("InvalidRequest", f"The value specified in the x-amz-trailer header is not supported: "
                                            f"{other[0]}")  # fmt: skip
    algorithms = tuple(name.removeprefix(prefix).upper() for name in names)
    for algorithm in algorithms:
        checksums.check_algorithm(algorithm)
    return algorithms


class Body(Iterable[bytes]):
    """The content, once, in blocks. What is wrong with it is raised before the last block ends.

    `md5`, `checksums` are complete when the blocks are. `seal` verifies the signatures of signed chunks.
    """

    def __init__(self, raw: Iterable[bytes], promised: Promise, seal: Seal | None = None) -> None:
        self.size = promised.size
        self._seal = seal
        self._raw = raw
        self._promised = promised
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if promised.sha256 else None
        names = dict.fromkeys((*promised.checksums, *promised.trailing))
        self._digests: dict[str, Digest] = {name: checksums.digest(name) for name in names}

    @property
    def algorithms(self) -> tuple[str, ...]:
        return tuple(self._digests)

    def want(self, algorithm: str) -> None:
        """Also computes `algorithm`. Before the first block."""
        self._digests.setdefault(algorithm, checksums.digest(algorithm))

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    @property
    def checksums(self) -> dict[str, str]:
        return {name: checksums.encoded(digest) for name, digest in self._digests.items()}

    def __iter__(self) -> Iterator[bytes]:
        signed = self._promised.signed_chunks
        decoder = None if signed is None else ChunkedDecoder(signed=signed, seal=self._seal)
        seen = 0
        for arrived in self._raw:
            block = arrived if decoder is None else decoder.feed(arrived)
            if not block:
                continue
            seen += len(block)
            if seen > self.size:
                raise ObjectError("IncompleteBody", f"The body is longer than the {self.size} bytes it was to have.")
            self._digest(block)
            yield block
        if seen != self.size or (decoder is not None and not decoder.finished):
            raise ObjectError("IncompleteBody", "You did not provide the number of bytes specified by the "
                              "Content-Length HTTP header", Provided=str(seen), Expected=str(self.size))  # fmt: skip
        self._verify({} if decoder is None else decoder.trailers)

    def _digest(self, block: bytes) -> None:
        self._md5.update(block)
        if self._sha256 is not None:
            self._sha256.update(block)
        for digest in self._digests.values():
            digest.update(block)

    def _verify(self, trailers: Mapping[str, str]) -> None:
        promised = self._promised
        if promised.md5 is not None and promised.md5 != self._md5.digest():
            raise ObjectError("BadDigest", "The Content-MD5 you specified did not match what we received.",
                              CalculatedDigest=base64.b64encode(self._md5.digest()).decode())  # fmt: skip
        if self._sha256 is not None and self._sha256.hexdigest() != promised.sha256:
            raise ObjectError("XAmzContentSHA256Mismatch", S3ComputedContentSHA256=self._sha256.hexdigest())
        wanted = dict(promised.checksums)
        for algorithm in promised.trailing:
            if checksums.header(algorithm) not in trailers:
                raise ObjectError("MalformedTrailerError", f"The trailer {checksums.header(algorithm)} is missing.")
            wanted[algorithm] = checksums.parse(algorithm, trailers[checksums.header(algorithm)])
        computed = self.checksums
        for algorithm, value in wanted.items():
            if computed[algorithm] != value:
                raise ObjectError("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")

"""S3's ``aws-chunked`` bodies: chunks with or without a signature, and trailers.

    SIZE-IN-HEX[;chunk-signature=64 HEX DIGITS] CRLF
    bytes CRLF
    ...
    0[;chunk-signature=...] CRLF
    [name:value CRLF ...] CRLF
"""

from __future__ import annotations

import hashlib
import re

from server.objects.errors import ObjectError
from server.objects.seal import TRAILER_SIGNATURE, Seal, SealCheck

_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_MAX_LINE = 8 * 1024
_MAX_TRAILERS = 20


class ChunkedDecoder:
    """Fed with what arrives, in pieces of any size; gives back what the chunks hold.

    `signed` asks for a signature in every chunk header. With `seal` each is verified once its chunk is whole, which is
    after the chunk's content was given back: what it was given for stands only if nothing is raised up to the end.
    """

    def __init__(self, *, signed: bool, seal: Seal | None = None) -> None:
        self.trailers: dict[str, str] = {}
        self.finished = False
        self._signed = signed
        self._check = SealCheck(seal) if signed and seal is not None else None
        self._signature = ""
        """Of the current chunk; `_digest` is of its content."""
        self._digest = hashlib.sha256()
        self._line = bytearray()
        self._left = 0
        """Bytes of the current chunk still to come, its closing CRLF included."""
        self._ending = False
        self._bare = False
        """The last trailer ended with a line feed alone."""

    def feed(self, data: bytes) -> bytes:
        """Raises IncompleteBody for malformed chunks, MalformedTrailerError for malformed trailers.

        And SignatureDoesNotMatch for a chunk, or trailers, that the caller's key did not sign.
        """
        found: list[bytes] = []
        at = 0
        while at < len(data):
            if self.finished:
                raise _malformed("there are bytes after the last chunk")
            at = self._chunk(data, at, found) if self._left else self._lined(data, at)
        return b"".join(found)

    def _chunk(self, data: bytes, at: int, found: list[bytes]) -> int:
        taken = data[at : at + self._left]
        content = taken[: max(0, self._left - 2)]
        tail = taken[len(content) :]
        closing = b"\r\n"[2 - min(2, self._left) :][: len(tail)]
        if tail != closing:
            raise _malformed("a chunk does not end where its size says")
        if content:
            found.append(content)
            if self._check is not None:
                self._digest.update(content)
        self._left -= len(taken)
        if self._left == 0:
            self._seal_chunk()
        return at + len(taken)

    def _lined(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > _MAX_LINE:
            raise _malformed("a chunk header or trailer is too long")
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            self._take(line)
        return stop

    def _take(self, line: bytes) -> None:
        text = line.strip(b"\r\n")
        if self._ending:
            self._trailer(text, bare=not line.endswith(b"\r\n"))
            return
        header = _HEADER.fullmatch(text)
        if header is None or not line.endswith(b"\r\n"):
            raise _malformed("a chunk header is not SIZE;chunk-signature=SIGNATURE")
        if self._signed and header[2] is None:
            raise _malformed("a chunk has no signature")
        self._signature = (header[2] or b"").decode()
        size = int(header[1], 16)
        self._left = size + 2 if size else 0
        self._ending = size == 0
        if self._ending:
            self._seal_chunk()

    def _seal_chunk(self) -> None:
        if self._check is not None:
            self._check.chunk(self._digest, self._signature)
            self._digest = hashlib.sha256()

    def _trailer(self, text: bytes, *, bare: bool) -> None:
        if not text:
            # Some clients end the signed trailers' text with a line feed of its own before CRLF.
            if bare or (self._signed and self._bare):
                self._bare = False
                return
            self._seal_trailers()
            self.finished = True
            return
        self._bare = bare
        name, colon, value = text.partition(b":")
        if not colon or not name.strip() or len(self.trailers) >= _MAX_TRAILERS or not text.isascii():
            raise ObjectError("MalformedTrailerError")
        field = name.strip().decode().lower()
        if field in self.trailers:
            raise ObjectError("MalformedTrailerError", f"The trailer {field} is there twice.")
        self.trailers[field] = value.strip().decode()

    def _seal_trailers(self) -> None:
        signature = self.trailers.pop(TRAILER_SIGNATURE, None)
        if self._check is None or (signature is None and not self.trailers):
            return
        if signature is None:
            raise ObjectError("MalformedTrailerError", f"The trailer {TRAILER_SIGNATURE} is missing.")
        self._check.trailers(self.trailers, signature)


def _malformed(why: str) -> ObjectError:
    return ObjectError("IncompleteBody", f"The request body is not well-formed aws-chunked: {why}.")

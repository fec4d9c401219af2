"""S3's ``aws-chunked`` bodies: chunks with or without a signature, and trailers.

    SIZE-IN-HEX[;chunk-signature=64 HEX DIGITS] CRLF
    bytes CRLF
    ...
    0[;chunk-signature=...] CRLF
    [name:value CRLF ...] CRLF
"""

from __future__ import annotations

import re

from server.objects.errors import ObjectError

_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_MAX_LINE = 8 * 1024
_MAX_TRAILERS = 20


class ChunkedDecoder:
    """Fed with what arrives, in pieces of any size; gives back what the chunks hold.

    `signed` asks for a signature in every chunk header; its value is not verified here.
    """

    def __init__(self, *, signed: bool) -> None:
        self.trailers: dict[str, str] = {}
        self.finished = False
        self._signed = signed
        self._line = bytearray()
        self._left = 0
        """Bytes of the current chunk still to come, its closing CRLF included."""
        self._ending = False

    def feed(self, data: bytes) -> bytes:
        """Raises IncompleteBody for malformed chunks, MalformedTrailerError for malformed trailers."""
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
        self._left -= len(taken)
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
        size = int(header[1], 16)
        self._left = size + 2 if size else 0
        self._ending = size == 0

    def _trailer(self, text: bytes, *, bare: bool) -> None:
        if not text:
            # Some clients end the signed trailers' text with a line feed of its own before CRLF.
            self.finished = not bare
            return
        name, colon, value = text.partition(b":")
        if not colon or not name.strip() or len(self.trailers) >= _MAX_TRAILERS or not text.isascii():
            raise ObjectError("MalformedTrailerError")
        self.trailers[name.strip().decode().lower()] = value.strip().decode()


def _malformed(why: str) -> ObjectError:
    return ObjectError("IncompleteBody", f"The request body is not well-formed aws-chunked: {why}.")

"""Encrypted files that can be read from any byte on. Format 1:

A file is its content in chunks of 64 KiB, the last one shorter or as long (an empty file is one empty chunk), each
encrypted with AES-256-GCM and followed by its tag of 16 bytes. The key is HKDF-SHA256(data key, salt, LABEL) with 16
random bytes of salt, so it is this file's alone; a nonce is the chunk's number in 11 bytes and 0, or 1 for the
last chunk (the STREAM construction). A chunk that was changed, moved, dropped, or taken from another file does
not open, nor does the last one of a file that was cut.

Salt, data key and size of the content are kept elsewhere, with what names the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from server.errors import SealBroken

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
SALT_BYTES = 16
_STORED = CHUNK_BYTES + TAG_BYTES
_LABEL = b"hearth blob 1"


class File(Protocol):
    def seek(self, offset: int, /) -> int: ...
    def readinto(self, buffer: memoryview, /) -> int | None: ...


class BlobCipher:
    """Encrypts or decrypts one file."""

    def __init__(self, data_key: bytes, salt: bytes) -> None:
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt, _LABEL).derive(data_key))

    @staticmethod
    def salt() -> bytes:
        return os.urandom(SALT_BYTES)

    def encrypted(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The file's bytes, for content that comes in blocks of any size."""
        number, held = 0, bytearray()  # a chunk is held back until it is known not to be the last
        for block in blocks:
            left = memoryview(block)
            if held:
                missing = CHUNK_BYTES - len(held)
                held += left[:missing]
                left = left[missing:]
                if not left:
                    continue
                yield bytes(self._sealed(number, held))
                number, held = number + 1, bytearray()
            whole = max(0, len(left) - 1) // CHUNK_BYTES
            if whole:
                yield bytes(self._sealed(number, left[: whole * CHUNK_BYTES]))
                number += whole
            held += left[whole * CHUNK_BYTES :]
        yield self._cipher.encrypt(_nonce(number, last=True), bytes(held), None)

    def _sealed(self, number: int, content: bytearray | memoryview) -> bytearray:
        """Chunks from `number` on, none of them the last."""
        view, count = memoryview(content), len(content) // CHUNK_BYTES
        out = bytearray(count * _STORED)
        into = memoryview(out)
        for index in range(count):
            chunk = view[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            nonce = _nonce(number + index, last=False)
            self._cipher.encrypt_into(nonce, chunk, None, into[index * _STORED : (index + 1) * _STORED])
        return out

    def decrypted(self, file: File, total: int, start: int, size: int, block: int) -> Iterator[bytes]:
        """`size` bytes from `start` on of content of `total` bytes, in blocks of at most `block` and a chunk.

        Reads and checks the chunks that hold them, and no others. Raises SealBroken.
        """
        if size <= 0:
            return
        final = max(0, total - 1) // CHUNK_BYTES
        number, end = start // CHUNK_BYTES, (start + size - 1) // CHUNK_BYTES + 1
        file.seek(number * _STORED)
        skip = start - number * CHUNK_BYTES
        while number < end:
            count = min(end - number, max(1, block // CHUNK_BYTES))
            content = self._opened(file, number, count, total, final)
            yield bytes(content[skip : skip + size])
            size -= len(content) - skip
            number, skip = number + count, 0

    def _opened(self, file: File, number: int, count: int, total: int, final: int) -> memoryview:
        length = min(count * CHUNK_BYTES, total - number * CHUNK_BYTES)
        stored = _read(file, length + count * TAG_BYTES)
        content = memoryview(bytearray(length))
        for index in range(count):
            nonce = _nonce(number + index, last=number + index == final)
            try:
                self._cipher.decrypt_into(
                    nonce,
                    stored[index * _STORED : (index + 1) * _STORED],
                    None,
                    content[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES],
                )
            except InvalidTag:
                raise SealBroken(f"Chunk {number + index} of an encrypted file was changed.") from None
        return content


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + (b"\x01" if last else b"\x00")


def _read(file: File, size: int) -> memoryview:
    """Exactly `size` bytes."""
    found = memoryview(bytearray(size))
    filled = 0
    while filled < size:
        count = file.readinto(found[filled:])
        if not count:
            raise SealBroken("An encrypted file is shorter than its content.")
        filled += count
    return found

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
        scratch = _Scratch()
        for block in blocks:
            left = memoryview(block)
            if held:
                missing = CHUNK_BYTES - len(held)
                held += left[:missing]
                left = left[missing:]
                if not left:
                    continue
                yield self._cipher.encrypt(_nonce(number, last=False), held, None)
                number, held = number + 1, bytearray()
            whole = max(0, len(left) - 1) // CHUNK_BYTES
            if whole:
                yield bytes(self._sealed(number, left[: whole * CHUNK_BYTES], scratch))
                number += whole
            held += left[whole * CHUNK_BYTES :]
        yield self._cipher.encrypt(_nonce(number, last=True), held, None)

    def _sealed(self, number: int, content: memoryview, scratch: _Scratch) -> memoryview:
        """Chunks from `number` on, none of them the last."""
        count = len(content) // CHUNK_BYTES
        out = scratch.view(count * _STORED)
        for index in range(count):
            chunk = content[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            nonce = _nonce(number + index, last=False)
            self._cipher.encrypt_into(nonce, chunk, None, out[index * _STORED : (index + 1) * _STORED])
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
        stored, opened = _Scratch(), _Scratch()
        while number < end:
            count = min(end - number, max(1, block // CHUNK_BYTES))
            content = opened.view(min(count * CHUNK_BYTES, total - number * CHUNK_BYTES))
            self._open(_filled(file, stored.view(len(content) + count * TAG_BYTES)), number, final, content)
            yield bytes(content[skip : skip + size])
            size -= len(content) - skip
            number, skip = number + count, 0

    def _open(self, stored: memoryview, number: int, final: int, content: memoryview) -> None:
        """Chunks from `number` on, into `content`."""
        for index in range(-(-len(stored) // _STORED)):
            nonce = _nonce(number + index, last=number + index == final)
            chunk = stored[index * _STORED : (index + 1) * _STORED]
            into = content[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            try:
                self._cipher.decrypt_into(nonce, chunk, None, into)
            except InvalidTag:
                raise SealBroken(f"Chunk {number + index} of an encrypted file was changed.") from None


class _Scratch:
    """Memory that is used again for each block: taking it anew each time costs more than the encryption."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray())

    def view(self, size: int) -> memoryview:
        if len(self._memory) < size:
            self._memory = memoryview(bytearray(size))
        return self._memory[:size]


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + (b"\x01" if last else b"\x00")


def _filled(file: File, found: memoryview) -> memoryview:
    filled = 0
    while filled < len(found):
        count = file.readinto(found[filled:])
        if not count:
            raise SealBroken("An encrypted file is shorter than its content.")
        filled += count
    return found

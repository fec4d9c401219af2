"""Checksums that S3's clients send and ask for, by the name of their algorithm."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from server.objects.crc import CRC32, CRC32C, CRC64NVME, Crc
from server.objects.errors import ObjectError


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _CrcDigest:
    def __init__(self, crc: Crc) -> None:
        self._crc = crc
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._crc.update(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._crc.width // 8, "big")


CRCS: Mapping[str, Crc] = {"CRC32": CRC32, "CRC32C": CRC32C, "CRC64NVME": CRC64NVME}

HASHES: Mapping[str, int] = {"SHA1": 20, "SHA256": 32, "SHA512": 64, "MD5": 16}
"""Bytes of each."""

ALGORITHMS: tuple[str, ...] = (*CRCS, *HASHES)
"""What is computed here; the XXHASH family is not."""


def digest(algorithm: str) -> Digest:
    if algorithm in CRCS:
        return _CrcDigest(CRCS[algorithm])
    return hashlib.new(algorithm.lower(), usedforsecurity=False)


def check_algorithm(algorithm: str) -> None:
    if algorithm not in ALGORITHMS:
        raise ObjectError("NotImplemented", f"The checksum algorithm {algorithm} is not implemented; "
                                            f"use one of {', '.join(ALGORITHMS)}.")  # fmt: skip


def member(algorithm: str) -> str:
    return f"Checksum{algorithm}"


def header(algorithm: str) -> str:
    return f"x-amz-checksum-{algorithm.lower()}"


def parse(algorithm: str, text: str) -> str:
    """`text` if it can be a checksum of `algorithm`. Raises InvalidRequest."""
    check_algorithm(algorithm)
    size = CRCS[algorithm].width // 8 if algorithm in CRCS else HASHES[algorithm]
    try:
        if len(base64.b64decode(text, validate=True)) == size:
            return text
    except (binascii.Error, ValueError):
        pass
    raise ObjectError("InvalidRequest", f"Value for {header(algorithm)} header is invalid.")


def composite(algorithm: str, parts: Iterable[str]) -> str:
    """Checksum of the parts' checksums, as of a multipart object of type COMPOSITE."""
    values = [base64.b64decode(part) for part in parts]
    whole = digest(algorithm)
    whole.update(b"".join(values))
    return f"{encoded(whole)}-{len(values)}"


def whole(algorithm: str, parts: Iterable[tuple[str, int]]) -> str:
    """Checksum of the whole object from each part's and its size: CRCs only, type FULL_OBJECT."""
    crc = CRCS[algorithm]
    value = 0
    for text, size in parts:
        value = crc.combine(value, int.from_bytes(base64.b64decode(text), "big"), size)
    return base64.b64encode(value.to_bytes(crc.width // 8, "big")).decode()


def encoded(finished: Digest) -> str:
    return base64.b64encode(finished.digest()).decode()

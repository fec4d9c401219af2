"""CRC32C and CRC64NVME at memory speed, with numpy.

A CRC is linear over GF(2), so a block is cut into lanes of equal length, all lanes advance together (eight
bytes a step, four lookups of 16 bits each), and their registers are folded pairwise: the left one is moved
past the right one's bytes and added. CRC-32 itself is zlib's; `combine` serves all three.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_LANES = (2048, 128, 8)
"""Lanes of a large block and of what is left of it. A lane is a power of two of words, so few folds are needed."""

_FEWEST_WORDS = 8


class Crc:
    """One reflected CRC with all-ones start and end, of `width` bits, by its reflected polynomial."""

    def __init__(self, width: int, polynomial: int) -> None:
        self.width = width
        self._mask = (1 << width) - 1
        self._polynomial = polynomial
        self._bytes = [self._byte(value) for value in range(256)]

    def update(self, data: bytes | memoryview, value: int = 0) -> int:
        """CRC of what `value` covers followed by `data`."""
        register = value ^ self._mask
        view = memoryview(data)
        for lanes in _LANES:
            while (words := len(view) // (8 * lanes)) >= _FEWEST_WORDS:
                size = (1 << words.bit_length() - 1) * lanes * 8
                register = self._advance(register, np.frombuffer(view[:size], dtype="<u8"), lanes)
                view = view[size:]
        for byte in view:
            register = (register >> 8) ^ self._bytes[(register ^ byte) & 0xFF]
        return register ^ self._mask

    def combine(self, left: int, right: int, right_size: int) -> int:
        """CRC of two stretches that follow each other, from the CRC of each."""
        return _apply(self._shift(right_size), left) ^ right

    def _byte(self, value: int) -> int:
        for _ in range(8):
            value = (value >> 1) ^ (self._polynomial if value & 1 else 0)
        return value

    def _advance(self, register: int, data: Words, lanes: int) -> int:
        columns = np.ascontiguousarray(data.reshape(lanes, -1).T)
        tables = _word_tables(self)
        state = np.zeros(lanes, dtype=np.uint64)
        state[0] = register
        for column in columns:
            state ^= column
            halves = state.view("<u2").reshape(-1, 4)
            state = np.take(tables[0], halves[:, 0])
            for index in (1, 2, 3):
                state ^= np.take(tables[index], halves[:, index])
        size = len(columns) * 8
        while len(state) > 1:
            state = _apply_all(_fold_tables(self, size), state[0::2]) ^ state[1::2]
            size *= 2
        return int(state[0])

    def _shift(self, size: int) -> list[int]:
        """The operator that moves a register past `size` zero bytes: the image of each of its bits."""
        operator = [1 << bit for bit in range(self.width)]
        step = [(1 << bit) >> 8 ^ self._bytes[(1 << bit) & 0xFF] for bit in range(self.width)]
        while size:
            if size & 1:
                operator = [_apply(step, image) for image in operator]
            step = [_apply(step, image) for image in step]
            size >>= 1
        return operator


def _apply(operator: list[int], value: int) -> int:
    result = 0
    for bit, image in enumerate(operator):
        if value >> bit & 1:
            result ^= image
    return result


def _digits(operator: list[int], width: int) -> Any:
    """The operator as tables of images, one table for each `width` bits of the register."""
    tables = np.zeros((len(operator) // width, 1 << width), dtype=np.uint64)
    for table, bits in zip(tables, zip(*[iter(operator)] * width, strict=True), strict=True):
        for bit, image in enumerate(bits):
            table[1 << bit : 2 << bit] = table[: 1 << bit] ^ np.uint64(image)
    return tables


def _apply_all(tables: Any, state: Words) -> Words:
    digits = np.ascontiguousarray(state).view(np.uint8).reshape(-1, 8)
    result = np.take(tables[0], digits[:, 0])
    for index in range(1, len(tables)):
        result ^= np.take(tables[index], digits[:, index])
    return result


@lru_cache(maxsize=4)
def _word_tables(crc: Crc) -> Any:
    """What each 16 bits of the eight bytes at hand come to once all eight have gone through.

    For a register narrower than 64 bits the bytes beyond it enter as a register of zeros would meet them.
    """
    images = []
    for bit in range(64):
        register = 0
        word = (1 << bit).to_bytes(8, "little")
        for byte in word:
            register = (register >> 8) ^ crc._bytes[(register ^ byte) & 0xFF]
        images.append(register)
    return _digits(images, 16)


@lru_cache(maxsize=64)
def _fold_tables(crc: Crc, size: int) -> Any:
    return _digits(crc._shift(size), 8)


class _Zlib(Crc):
    def update(self, data: bytes | memoryview, value: int = 0) -> int:
        return zlib.crc32(data, value)


CRC32: Crc = _Zlib(32, 0xEDB88320)
CRC32C = Crc(32, 0x82F63B78)
CRC64NVME = Crc(64, 0x9A6C9329AC4BC9B5)

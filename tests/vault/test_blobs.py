"""Encrypted files: any range is the plaintext's, and nothing that was changed opens."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import SealBroken
from server.vault.blobs import CHUNK_BYTES, TAG_BYTES, BlobCipher

STORED = CHUNK_BYTES + TAG_BYTES
DATA_KEY = bytes(range(32))
EDGES = [size for n in (1, 2, 3) for size in (n * CHUNK_BYTES - 1, n * CHUNK_BYTES, n * CHUNK_BYTES + 1)]
SIZES = st.one_of(st.integers(0, 5 * CHUNK_BYTES), st.sampled_from([0, 1, *EDGES]))


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def blocks(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def read(cipher: BlobCipher, stored: bytes, total: int, start: int, size: int, block: int = 1 << 20) -> bytes:
    return b"".join(cipher.decrypted(io.BytesIO(stored), total, start, size, block))


@given(SIZES, st.lists(SIZES, max_size=6), st.data())
def test_any_range_of_any_size_is_the_plaintext(size: int, cuts: list[int], data: st.DataObject) -> None:
    plain, cipher = content(size), BlobCipher(DATA_KEY, BlobCipher.salt())
    stored = b"".join(cipher.encrypted(blocks(plain, cuts)))
    assert len(stored) == size + TAG_BYTES * max(1, -(-size // CHUNK_BYTES))
    start = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - start))
    block = data.draw(st.sampled_from([1, CHUNK_BYTES, 3 * CHUNK_BYTES, 1 << 20]))
    assert read(cipher, stored, size, start, length, block) == plain[start : start + length]
    assert read(cipher, stored, size, 0, size) == plain


@given(SIZES.filter(bool), st.data())
def test_any_flipped_byte_is_an_error(size: int, data: st.DataObject) -> None:
    cipher = BlobCipher(DATA_KEY, bytes(16))
    stored = bytearray(b"".join(cipher.encrypted([content(size)])))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBroken):
        read(cipher, bytes(stored), size, 0, size)


@given(SIZES.filter(bool), st.data())
def test_a_cut_file_is_an_error_whatever_size_is_claimed(size: int, data: st.DataObject) -> None:
    cipher = BlobCipher(DATA_KEY, bytes(16))
    stored = b"".join(cipher.encrypted([content(size)]))
    cut = data.draw(st.integers(0, len(stored) - 1))
    claimed = data.draw(st.sampled_from([size, cut, max(1, cut - TAG_BYTES * -(-cut // STORED))]))
    with pytest.raises(SealBroken):
        read(cipher, stored[:cut], max(1, claimed), 0, max(1, claimed))


def chunks(stored: bytes) -> list[bytes]:
    return [stored[at : at + STORED] for at in range(0, len(stored), STORED)]


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (0, 0, 2), (2, 1, 0), (0, 2), (0, 1), (1, 2), (0, 1, 2, 2)])
def test_chunks_that_were_moved_or_dropped_are_an_error(order: tuple[int, ...]) -> None:
    cipher = BlobCipher(DATA_KEY, bytes(16))
    size = 3 * CHUNK_BYTES
    parts = chunks(b"".join(cipher.encrypted([content(size)])))
    stored, claimed = b"".join(parts[index] for index in order), len(order) * CHUNK_BYTES
    with pytest.raises(SealBroken):
        read(cipher, stored, claimed, 0, claimed)


def test_a_chunk_of_another_file_is_an_error() -> None:
    size = 2 * CHUNK_BYTES
    one, other = BlobCipher(DATA_KEY, BlobCipher.salt()), BlobCipher(DATA_KEY, BlobCipher.salt())
    mine, theirs = (chunks(b"".join(cipher.encrypted([content(size)]))) for cipher in (one, other))
    with pytest.raises(SealBroken):
        read(one, mine[0] + theirs[1], size, 0, size)
    with pytest.raises(SealBroken):
        read(BlobCipher(bytes(32), bytes(16)), b"".join(mine), size, 0, size)


def test_a_range_touches_its_own_chunks_only() -> None:
    cipher, size = BlobCipher(DATA_KEY, bytes(16)), 4 * CHUNK_BYTES
    plain = content(size)
    parts = chunks(b"".join(cipher.encrypted([plain])))
    stored = bytes(STORED) + parts[1] + parts[2] + bytes(STORED)
    start, length = CHUNK_BYTES + 5, CHUNK_BYTES + 7
    assert read(cipher, stored, size, start, length) == plain[start : start + length]

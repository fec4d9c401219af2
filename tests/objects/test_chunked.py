"""The aws-chunked decoder and the checksums, on everything."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.objects import checksums
from server.objects.chunked import ChunkedDecoder
from server.objects.crc import CRC32, CRC32C, CRC64NVME, Crc
from server.objects.errors import ObjectError

CUTS = st.lists(st.integers(1, 40), max_size=40)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), CUTS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_chunks_come_out_as_they_went_in(parts: list[bytes], cuts: list[int], signed: bool) -> None:
    mark = f";chunk-signature={'0' * 64}" if signed else ""
    body = b"".join(f"{len(part):X}{mark}\r\n".encode() + part + b"\r\n" for part in parts)
    body += f"0{mark}\r\nx-amz-checksum-crc32: AAAA \r\n\r\n".encode()
    decoder = ChunkedDecoder(signed=signed)
    out, at = b"", 0
    for cut in [*cuts, len(body)]:
        assert not decoder.finished or at >= len(body)
        out += decoder.feed(body[at : at + cut])
        at += cut
    assert (out, decoder.finished, decoder.trailers) == (b"".join(parts), True, {"x-amz-checksum-crc32": "AAAA"})


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_decoded_or_refused(body: bytes, signed: bool) -> None:
    with contextlib.suppress(ObjectError):
        ChunkedDecoder(signed=signed).feed(body)


def test_a_chunk_header_is_bounded() -> None:
    with pytest.raises(ObjectError, match="too long"):
        ChunkedDecoder(signed=False).feed(b"1" * 10_000)


@pytest.mark.parametrize(
    ("crc", "expected"), [(CRC32, 0xCBF43926), (CRC32C, 0xE3069283), (CRC64NVME, 0xAE8B14860A799888)]
)
def test_check_values(crc: Crc, expected: int) -> None:
    assert crc.update(b"123456789") == expected


SIZES = st.one_of(st.integers(0, 300), st.integers(0, 300_000))


@given(SIZES, SIZES, st.integers(0, 2**32), st.sampled_from([CRC32C, CRC64NVME]))
@settings(max_examples=60, deadline=None)
def test_lanes_come_to_what_bytes_do(left: int, right: int, seed: int, crc: Crc) -> None:
    data = (seed.to_bytes(5, "little") * ((left + right) // 5 + 1))[: left + right]
    value = crc.update(b"")
    for start in range(0, len(data), 7):  # seven at a time never fills a lane
        value = crc.update(data[start : start + 7], value)
    assert crc.update(data) == value
    assert crc.update(data[left:], crc.update(data[:left])) == value
    assert crc.combine(crc.update(data[:left]), crc.update(data[left:]), right) == value


@given(st.binary(max_size=2000), st.binary(max_size=2000))
@settings(deadline=None)
def test_crc32_combines_as_zlib_has_it(left: bytes, right: bytes) -> None:
    assert CRC32.combine(zlib.crc32(left), zlib.crc32(right), len(right)) == zlib.crc32(left + right)


@pytest.mark.parametrize("text", ["", "AAAA", "AAAAAA=", "AAAAAAA=A", "!!!!!!==", "AAAAAAAA"])
def test_texts_that_are_no_checksum(text: str) -> None:
    with pytest.raises(ObjectError) as caught:
        checksums.parse("CRC32", text)
    assert caught.value.code == "InvalidRequest"

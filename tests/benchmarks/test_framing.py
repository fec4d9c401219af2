from __future__ import annotations

import binascii
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.framing import StreamFormatError, aws_events, server_sent

Pieces = list[tuple[float, bytes]]


def cut(body: bytes, places: list[int]) -> Pieces:
    """The body as pieces that arrived at seconds 0, 1, 2, ..."""
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [(float(i), body[a:b]) for i, (a, b) in enumerate(pairwise(edges))]


def frame(kind: str, payload: bytes, message: str = "event") -> bytes:
    """One AWS event-stream message, by the format's description."""
    headers = b""
    for name, value in ((f":{message}-type", kind), (":message-type", message)):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    whole = prelude + headers + payload
    return whole + struct.pack(">I", binascii.crc32(whole))


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_server_sent_events_do_not_depend_on_how_the_bytes_were_cut(places: list[int], crlf: bool) -> None:
    body = b': ping\n\ndata: {"a": 1}\n\nevent: x\ndata: one\ndata:two\n\nid: 3\n\ndata: [DONE]\n\n'
    pieces = cut(body.replace(b"\n", b"\r\n") if crlf else body, places)
    found = [(event.data, event.kind) for event in server_sent(pieces)]
    assert found == [(b'{"a": 1}', ""), (b"one\ntwo", "x"), (b"[DONE]", "")]


def test_an_event_is_stamped_when_its_last_byte_came() -> None:
    pieces: Pieces = [(1.0, b"data: a\n\ndata: "), (2.0, b"b"), (3.0, b"\n\ndata: c")]
    assert [(event.at, event.data) for event in server_sent(pieces)] == [(1.0, b"a"), (3.0, b"b"), (3.0, b"c")]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_aws_events_do_not_depend_on_how_the_bytes_were_cut(payloads: list[bytes], places: list[int]) -> None:
    body = b"".join(frame("PayloadPart", payload) for payload in payloads)
    found = list(aws_events(cut(body, places)))
    assert [(event.kind, event.data) for event in found] == [("PayloadPart", payload) for payload in payloads]


def test_aws_exceptions_carry_their_type() -> None:
    (event,) = aws_events([(0.0, frame("ModelStreamError", b"{}", "exception"))])
    assert event.kind == "ModelStreamError"


def test_a_damaged_or_cut_event_stream_is_refused() -> None:
    whole = frame("PayloadPart", b"hello")
    with pytest.raises(StreamFormatError, match="not an AWS event stream"):
        list(aws_events([(0.0, whole[:-6] + b"x" + whole[-5:])]))
    with pytest.raises(StreamFormatError, match="inside a frame"):
        list(aws_events([(0.0, whole[:-1])]))

import json

from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from server.dialects import eventstream

NAMES = st.text(min_size=1, max_size=20)


def read(data: bytes) -> list[tuple[dict[str, str], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, message.payload) for message in buffer]


@given(st.dictionaries(NAMES, st.text(max_size=50), max_size=5), st.binary(max_size=3000))
def test_botocore_reads_what_we_frame(headers: dict[str, str], payload: bytes) -> None:
    assert read(eventstream.frame(eventstream.encode_headers(headers), payload)) == [(headers, payload)]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_parts_arrive_in_order_and_whole(chunks: list[bytes]) -> None:
    framed = b"".join(b"".join(eventstream.payload_parts(chunk)) for chunk in chunks)
    messages = read(framed)
    assert [payload for _, payload in messages] == chunks
    assert all(headers[":event-type"] == "PayloadPart" for headers, _ in messages)


def test_long_payloads_are_split() -> None:
    data = b"x" * (2 * eventstream.MAX_PART + 1)
    parts = [payload for _, payload in read(b"".join(eventstream.payload_parts(data)))]
    assert [len(part) for part in parts] == [eventstream.MAX_PART, eventstream.MAX_PART, 1]


def test_an_exception_says_which() -> None:
    ((headers, payload),) = read(eventstream.exception("ModelStreamError", {"Message": "é"}))
    assert headers[":message-type"] == "exception"
    assert headers[":exception-type"] == "ModelStreamError"
    assert json.loads(payload) == {"Message": "é"}

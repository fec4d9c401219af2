"""When two answers are the same, and how far apart they are when not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.dialects.eventstream import CONTENT_TYPE, payload_parts
from server.shadow.charged import Charged
from server.shadow.compare import compared
from server.shadow.copies import Answered
from server.shadow.pairs import Pair, Side
from server.shadow.reports import Subject, forget, found, keep
from server.shadow.tally import Difference, Tally
from server.store.store import Store
from tests.control.conftest import migrated, store  # noqa: F401 - fixtures

OK = (200, 200)
CHAT = {"id": "1", "object": "chat.completion", "created": 1, "usage": {"total_tokens": 3}}


def answer(body: Any, content_type: str = "application/json", status: int = 200, **headers: str) -> Answered:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Answered(status, tuple((name.encode(), value.encode()) for name, value in given.items()), encoded, 0.1)


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {**CHAT, **more, "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


def events(*documents: Any) -> bytes:
    lines = [f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in documents]
    return "".join(lines).encode()


def delta(text: str, **more: Any) -> dict[str, Any]:
    return {**CHAT, "object": "chat.completion.chunk", **more, "choices": [{"index": 0, "delta": {"content": text}}]}


SSE = "text/event-stream"
CASES = {
    "the same bytes": (answer(b"\0\1", "x/y"), answer(b"\0\1", "x/y"), Difference(OK, True)),
    "other bytes": (answer(b"\0\1", "x/y"), answer(b"\0\2", "x/y"), Difference(OK, False)),
    "JSON in another order and spacing": (
        answer(b'{"a": 1, "b": [1.0, 2]}'), answer(b'{"b":[1.0,2],"a":1}'), Difference(OK, True, largest=0.0),
    ),
    "numbers that are near": (
        answer({"predictions": [[0.25, 0.5]]}), answer({"predictions": [[0.25, 0.75]]}),
        Difference(OK, False, largest=0.25),
    ),
    "numbers at other places": (answer([1, 2]), answer([1, 2, 3]), Difference(OK, False)),
    "true is no number": (answer([True]), answer([False]), Difference(OK, False)),
    "a number beyond all floats": (answer(b"[1]"), answer(b"[1" + b"0" * 400 + b"]"), Difference(OK, False)),
    "no number at all": (answer(b"[NaN]"), answer(b"[1]"), Difference(OK, False)),
    "numbers of a CSV": (answer(b"1,2\n3,4", "text/csv"), answer(b"1,2\n3,5", "text/csv"),
                         Difference(OK, False, largest=1.0)),
    "an OpenAI answer of another time": (
        answer(chat("one two")), answer(chat("one two", id="2", created=9)), Difference(OK, True, similarity=1.0),
    ),
    "another text": (answer(chat("a b")), answer(chat("a c")), Difference(OK, False, similarity=2 / 3)),
    "a container's text": (
        answer([{"generated_text": "a b"}]), answer([{"generated_text": "a c"}]),
        Difference(OK, False, similarity=2 / 3),
    ),
    "plain text": (answer(b"a b", "text/plain"), answer(b"a c", "text/plain"), Difference(OK, False, similarity=2 / 3)),
    "a stream cut in other places": (
        answer(events(delta("a "), delta("b"), "[DONE]"), SSE),
        answer(events(delta("a", id="2"), delta(" "), delta("b"), "[DONE]"), SSE),
        Difference(OK, True, similarity=1.0),
    ),
    "a stream of another text": (
        answer(events(delta("a "), delta("b"), "[DONE]"), SSE), answer(events(delta("a c"), "[DONE]"), SSE),
        Difference(OK, False, similarity=2 / 3),
    ),
    "an AWS event stream cut in other places": (
        answer(b"".join([*payload_parts(b'{"a":'), *payload_parts(b"1}")]), CONTENT_TYPE,
               x_amzn_sagemaker_content_type="application/json"),
        answer(b"".join(payload_parts(b'{"a": 1}')), CONTENT_TYPE, x_amzn_sagemaker_content_type="application/json"),
        Difference(OK, True, largest=0.0),
    ),
    "a broken event stream": (
        answer(b"\0" * 40, CONTENT_TYPE), answer(b"\1" * 40, CONTENT_TYPE), Difference(OK, False),
    ),
    "what is no JSON": (answer(b"{"), answer(b"}"), Difference(OK, False)),
    "JSON beyond all depth": (answer(b"[" * 100_000), answer(b"]"), Difference(OK, False)),
    "one failed": (answer({}), answer({}, status=500), Difference((200, 500))),
    "both failed": (answer({"id": 1}, status=424), answer({"id": 2}, status=424), Difference((424, 424))),
    "one is too long to be kept": (answer({}), Answered(200, (), None, 0.1), Difference(OK)),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other", "expected"), CASES.values(), ids=CASES)
def test_two_answers(one: Answered, other: Answered, expected: Difference) -> None:
    seen = compared(one, other)
    assert (seen.statuses, seen.equal, seen.largest) == (expected.statuses, expected.equal, expected.largest)
    assert seen.similarity == pytest.approx(expected.similarity, abs=1e-6)


def test_tallies_add_up_and_travel() -> None:
    one, other = Tally(), Tally()
    one.count("sampled")
    one.add(Difference(OK, False, similarity=0.5), 0.010, 0.020)
    other.add(Difference((200, 500)), 0.010, 0.040)
    other.merge(Tally.from_wire(json.loads(json.dumps(one.to_wire()))))
    report = other.report()
    assert (report["sampled"], report["compared"], report["status_equal"]) == (1, 2, 1)
    assert (report["answers_compared"], report["answers_equal"]) == (1, 0)
    assert report["statuses"] == {"200/200": 1, "200/500": 1}
    assert report["latency"]["ratio"]["p50"] == pytest.approx(2.0, rel=0.05)
    assert report["latency"]["production_ms"]["p95"] == pytest.approx(10.0, rel=0.05)
    assert report["largest_difference"] is None
    with pytest.raises(ValueError, match="unknown counts"):
        Tally.from_wire({"counts": {"nonsense": 1}, "statuses": {}, "values": {}})


def told(count: int) -> dict[str, Any]:
    tally = Tally()
    for _ in range(count):
        tally.count("sampled")
    return tally.to_wire()


def test_totals_that_come_again_are_counted_once(store: Store) -> None:  # noqa: F811
    subject = Subject("ep", "AllTraffic", "Shadow", "r1")
    for count in (3, 5, 5):
        keep(store, subject, {"one": told(count), "two": told(1)}, None)
    (report,) = found(store, "ep")
    assert (report["sampled"], report["shadow"], report["experiment"]) == (6, "Shadow", None)
    for number in range(60):
        keep(store, subject, {f"gone-{number}": told(1)}, {"one", "two"})
    (report,) = found(store, "ep")
    assert report["sampled"] == 66
    assert len((store.find("ShadowReport")[0].observation or {})["sources"]) < 40
    keep(store, Subject("ep", "AllTraffic", "Shadow", "r1", "x"), {"one": told(2)}, None)
    forget(store, endpoint="ep")
    assert [each["experiment"] for each in found(store, "ep")] == ["x"]
    forget(store, experiment="x")
    assert found(store, "ep") == []


def test_a_pair_is_two_records_of_data_capture() -> None:
    pair = Pair("s", "r-1", 0.0, "application/json", b'{"inputs": 1}', Side(200, "application/json", b"[1]"),
                Side(200, "image/png", b"\0"))  # fmt: skip
    assert Pair.from_wire(json.loads(json.dumps(pair.to_wire()))) == pair
    production, shadow = (json.loads(line) for line in pair.records())
    assert production["captureData"]["endpointInput"] == {
        "observedContentType": "application/json", "mode": "INPUT", "data": '{"inputs": 1}', "encoding": "JSON",
    }  # fmt: skip
    assert production["captureData"]["endpointOutput"]["data"] == "[1]"
    assert shadow["captureData"]["endpointOutput"] == {
        "observedContentType": "image/png", "mode": "OUTPUT", "data": "AA==", "encoding": "BASE64",
    }  # fmt: skip
    assert shadow["eventMetadata"] == {"eventId": "r-1", "inferenceTime": "1970-01-01T00:00:00Z", "statusCode": 200}
    assert shadow["eventVersion"] == "0"


def test_a_shadow_s_tokens_are_nobody_s() -> None:
    used = 10
    charged = Charged(lambda: used)
    assert charged() == 10
    charged.shadow(True)
    used = 100
    assert charged() == 10
    used = 150
    charged.shadow(False)  # it was promoted
    used = 155
    assert charged() == 15

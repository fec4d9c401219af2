"""Answers of a customer's code that come in parts, through boto3."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from server.spec import Limits, VariantSpec
from tests.fixtures.replica import Running, running


def variant(folder: Path, code: str, **more: Any) -> VariantSpec:
    file = folder / "model" / "code" / "inference.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(code))
    return VariantSpec(model=str(folder / "model"), **more)


def parts(answer: Any) -> list[bytes]:
    return [event["PayloadPart"]["Bytes"] for event in answer["Body"]]


SLOW = """
    import json, os, time

    STARTED, CLOSED = "started", "closed"

    def model_fn(model_dir):
        return model_dir

    def input_fn(body, content_type):
        return json.loads(body)

    def predict_fn(data, model):
        for number in range(data.get("first", 0), data["count"]):
            if number == data.get("fail_at"):
                raise RuntimeError("spoiled in the middle")
            if number == data.get("die_at"):
                os._exit(3)
            time.sleep(data.get("pause", 0))
            while number and "wait" in data and not os.path.exists(os.path.join(os.environ["SM_MODEL_DIR"], "go-on")):
                time.sleep(0.01)
            yield number
        if data.get("hang"):
            time.sleep(60)

    def output_fn(prediction, accept):
        def parts():
            try:
                for number in prediction:
                    yield f"{number};" * {"text/big": 200_000}.get(accept, 1)
            finally:
                with open(os.path.join(os.environ["SM_MODEL_DIR"], "ended"), "a") as file:
                    file.write("ended\\n")
        return parts(), "text/plain"
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("slow")
    limits = Limits(request_timeout_s=30)
    with running(variant(folder, SLOW, limits=limits, engine={"timeout-s": 3}), folder) as replica:
        yield replica, folder / "model" / "ended"


def test_parts_come_as_they_are_made(slow: tuple[Running, Path]) -> None:
    """The second is made once the first is here."""
    answer = slow[0].stream(json.dumps({"count": 4, "wait": True}))
    assert answer["ContentType"] == "text/plain"
    events = iter(answer["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"0;"
    slow[1].with_name("go-on").touch()
    assert [event["PayloadPart"]["Bytes"] for event in events] == [b"1;", b"2;", b"3;"]


def test_a_unary_call_gets_the_parts_as_one_body(slow: tuple[Running, Path]) -> None:
    answer = slow[0].invoke('{"count": 3}')
    assert (answer["Body"], answer["ContentType"]) == (b"0;1;2;", "text/plain")
    assert slow[0].invoke('{"count": 0}')["Body"] == b""
    assert parts(slow[0].stream('{"count": 0}')) == []


def test_a_large_part_is_cut_into_events(slow: tuple[Running, Path]) -> None:
    got = parts(slow[0].stream('{"count": 12, "first": 9}', Accept="text/big"))
    assert b"".join(got) == b"9;" * 200_000 + b"10;" * 200_000 + b"11;" * 200_000
    assert max(map(len, got)) <= 1024 * 1024


def test_an_error_before_the_first_part_is_a_model_error(slow: tuple[Running, Path]) -> None:
    for call in (slow[0].invoke, slow[0].stream):
        with pytest.raises(ClientError, match="spoiled in the middle") as caught:
            call('{"count": 3, "fail_at": 0}')
        assert caught.value.response["Error"]["Code"] == "ModelError"
        assert caught.value.response["OriginalStatusCode"] == 500


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"count": 3, "fail_at": 2}, "spoiled in the middle"),
        ({"count": 3, "die_at": 2}, "exited with status 3"),
        ({"count": 2, "hang": True}, "did not answer within 3 s"),
    ],
)
def test_an_error_in_the_middle_ends_the_stream_with_its_reason(
    slow: tuple[Running, Path], question: dict[str, Any], words: str
) -> None:
    got: list[bytes] = []
    events = slow[0].stream(json.dumps(question))["Body"]
    with pytest.raises(EventStreamError, match=words) as caught:
        got.extend(event["PayloadPart"]["Bytes"] for event in events)
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert got == [b"0;", b"1;"]
    with pytest.raises(ClientError, match=words) as unary:
        slow[0].invoke(json.dumps(question))
    assert unary.value.response["Error"]["Code"] == "ModelError"
    assert slow[0].invoke('{"count": 1}')["Body"] == b"0;"


def test_who_leaves_early_has_the_generator_closed_and_the_worker_goes_on(slow: tuple[Running, Path]) -> None:
    replica, ended = slow
    (pid,) = replica.runtime.engines.payload.pids  # type: ignore[union-attr]
    ended.unlink(missing_ok=True)
    answer = replica.stream('{"count": 1000000, "pause": 0.01}')
    next(iter(answer["Body"]))
    answer["Body"].close()
    assert replica.invoke('{"count": 1}')["Body"] == b"0;"
    assert ended.read_text().count("ended") == 2
    assert replica.runtime.engines.payload.pids == [pid], "killed at its deadline"  # type: ignore[union-attr]


def test_parts_of_the_default_output_function(tmp_path: Path) -> None:
    code = """
        def model_fn(model_dir):
            return None

        def predict_fn(data, model):
            yield from data.tolist()
    """
    with running(variant(tmp_path, code, engine={"max-answer-bytes": 64}), tmp_path) as replica:
        answer = replica.stream("[[1, 2], [3, 4]]")
        assert answer["ContentType"] == "application/jsonlines"
        assert parts(answer) == [b"[1, 2]\n", b"[3, 4]\n"]
        assert replica.invoke("[[1, 2], [3, 4]]")["Body"] == b"[1, 2]\n[3, 4]\n"
        with pytest.raises(ClientError, match="known are application/jsonlines"):
            replica.invoke("[1]", Accept="text/csv")
        with pytest.raises(ClientError, match="at most 64 are allowed"):
            replica.invoke(json.dumps([[1, 2]] * 20))
        with pytest.raises(EventStreamError, match="at most 64 are allowed"):
            parts(replica.stream(json.dumps([[1, 2]] * 20)))

"""What a replica captures, read from a real object store; clients never wait for it.

Nothing here waits for a clock: files come when enough waits or when the capturing ends, and a store that is slow is let
go by an event.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import EventStreamError
from prometheus_client import REGISTRY

from server.capture.capturing import Capturing
from server.capture.event import Event
from server.dialects.engine import Answer, Engines, Invocation
from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.opening import open_storage
from server.objects.operations import MODEL
from server.objects.storage import Storage
from server.settings import Settings
from server.spec import Capture
from server.store.migrate import migrate
from server.store.store import connect
from tests.fixtures.fake_engines import EchoText, OpenAIApp, text_engines
from tests.fixtures.served import Served, guarded, serving

ALL = Capture(destination="s3://kept/deep/down/", csv_types=("text/csv",), json_types=("application/json",))
SECRET = "AKIDSECRETSECRET"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(state_dir=tmp_path_factory.mktemp("capture"))
    engine = connect(made.database)
    migrate(engine)
    engine.dispose()
    return made


@pytest.fixture
def storage(settings: Settings, tmp_path: Path) -> Iterator[Storage]:
    """A store of its own for each test, with a bucket."""
    opened = open_storage(settings.model_copy(update={"objects_dir": tmp_path / "objects"}))
    opened.call(MODEL.operation_model("CreateBucket"), {"Bucket": "kept"}, None)
    yield opened
    opened.close()


class Kept:
    """The store as a capturing has it: closing it is the test's affair. `fails` raises before each write."""

    def __init__(self, storage: Storage, fails: Callable[[], None] = lambda: None) -> None:
        self._storage = storage
        self._fails = fails

    def call(self, operation: Any, params: dict[str, Any], body: Body | None) -> Mapping[str, Any]:
        self._fails()
        return self._storage.call(operation, params, body)

    def close(self) -> None:
        return None


def files(storage: Storage) -> dict[str, list[dict[str, Any]]]:
    """Every file's records."""
    found = storage.call(MODEL.operation_model("ListObjectsV2"), {"Bucket": "kept"}, None).get("Contents", ())
    return {each["Key"]: _records(storage, each["Key"]) for each in found}


def _records(storage: Storage, key: str) -> list[dict[str, Any]]:
    content = storage.call(MODEL.operation_model("GetObject"), {"Bucket": "kept", "Key": key}, None)["Body"]
    try:
        return [json.loads(line) for line in b"".join(content.blocks()).splitlines()]
    finally:
        content.close()


def records(storage: Storage) -> list[dict[str, Any]]:
    return [record for found in files(storage).values() for record in found]


def counted(outcome: str, variant: str = "AllTraffic") -> float:
    labels = {"EndpointName": "m", "VariantName": variant, "outcome": outcome}
    return REGISTRY.get_sample_value("hearth_captured_requests_total", labels) or 0.0


@contextmanager
def captured(capturing: Capturing, engines: Engines | None = None) -> Iterator[Served]:
    guard = guarded(engines or text_engines(EchoText(), openai=OpenAIApp()), capturing=capturing)
    with serving(guard) as served:
        yield served


def over(storage: Storage, capture: Capture | None = ALL, **more: Any) -> Capturing:
    made = Capturing(lambda: Kept(storage), "m", "AllTraffic", **more)
    made.aim(capture)
    return made


def end(served: Served, capturing: Capturing) -> None:
    """As a replica ends: once it has nothing in flight."""
    until(lambda: served.guard.in_flight == 0)
    capturing.stop()


def ask(served: Served, text: str = "one two", **headers: str) -> httpx.Response:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=30) as client:
        return client.post("/endpoints/m/invocations", json={"inputs": text}, headers=headers)


class Table:
    """A payload engine that answers what it is asked."""

    async def invoke(self, invocation: Invocation) -> Answer:
        return Answer(invocation.body, invocation.content_type)


def test_a_request_becomes_a_record_at_its_hour(storage: Storage) -> None:
    capturing = over(storage)
    with captured(capturing) as served:
        before = datetime.now(UTC)
        answer = ask(
            served, authorization=f"Bearer {SECRET}", cookie=f"session={SECRET}",
            **{"x-amzn-sagemaker-custom-attributes": "trace-7", "x-amzn-sagemaker-inference-id": "truth-9",
               "x-amz-security-token": SECRET, "x-request-id": "request-1"},
        )  # fmt: skip
        end(served, capturing)
    ((key, (record,)),) = files(storage).items()
    assert record["captureData"]["endpointInput"] == {
        "observedContentType": "application/json", "mode": "INPUT", "data": '{"inputs":"one two"}', "encoding": "JSON",
    }  # fmt: skip
    assert record["captureData"]["endpointOutput"] == {
        "observedContentType": "application/json", "mode": "OUTPUT", "data": answer.text, "encoding": "JSON",
    }  # fmt: skip
    meta = record["eventMetadata"]
    assert record["eventVersion"] == "0"
    assert (meta["eventId"], meta["inferenceId"], meta["customAttributes"]) == ("request-1", "truth-9", ["trace-7"])
    at = datetime.strptime(meta["inferenceTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before.replace(microsecond=0) <= at <= datetime.now(UTC)
    folder, name = key.rsplit("/", 1)
    assert folder == f"deep/down/m/AllTraffic/{at:%Y/%m/%d/%H}"
    assert name.startswith(f"{at:%M-%S}-")
    assert len(name) == len("MM-SS-mmm-") + 36 + len(".jsonl")
    assert SECRET not in json.dumps(record)


def test_types_that_nobody_names_are_base64(storage: Storage) -> None:
    capturing = over(storage)
    with captured(capturing, Engines(payload=Table())) as served, httpx.Client(trust_env=False) as client:
        for content_type, body in (
            ("text/csv; charset=utf-8", b"1,2"), ("application/x-npy", b"\x93\xff"), ("Application/JSON", b"[1]"),
            ("text/csv", b"\xff,1"),
        ):  # fmt: skip
            client.post(f"{served.url}/endpoints/m/invocations", content=body, headers={"content-type": content_type})
        end(served, capturing)
    sides = [record["captureData"]["endpointInput"] for record in records(storage)]
    assert [(each["encoding"], each["data"]) for each in sides] == [
        ("CSV", "1,2"), ("BASE64", base64.b64encode(b"\x93\xff").decode()), ("JSON", "[1]"),
        ("BASE64", base64.b64encode(b"\xff,1").decode()),
    ]  # fmt: skip


def test_streams_are_captured_whole_and_without_their_frames(storage: Storage) -> None:
    types = (*ALL.json_types, "text/event-stream")
    capturing = over(storage, ALL.model_copy(update={"json_types": types}))
    with captured(capturing) as served:
        body = json.dumps({"inputs": "a b c", "stream": True})
        events = served.boto3().invoke_endpoint_with_response_stream(EndpointName="m", Body=body)["Body"]
        told = b"".join(event["PayloadPart"]["Bytes"] for event in events).decode()
        stream = served.openai().chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x y"}], stream=True
        )
        words = [chunk.choices[0].delta.content for chunk in stream]
        end(served, capturing)
    first, second = (record["captureData"]["endpointOutput"] for record in records(storage))
    assert (first["observedContentType"], first["data"]) == ("text/event-stream", told)
    assert told.count("data:") == 3
    assert words == ["x", "y"]
    assert second["observedContentType"].startswith("text/event-stream")
    assert second["data"].endswith("data: [DONE]\n\n")


def test_failures_are_no_answers(storage: Storage) -> None:
    before = counted("unfinished")
    capturing = over(storage)
    with captured(capturing) as served:
        assert ask(served, "BREAK").status_code == 424
        assert ask(served, "").status_code == 424
        body = json.dumps({"inputs": "a MIDWAY", "stream": True})
        answer = served.boto3().invoke_endpoint_with_response_stream(EndpointName="m", Body=body)["Body"]
        with closing(answer), pytest.raises(EventStreamError, match="broke midway"):
            list(answer)
        end(served, capturing)
    assert records(storage) == []
    assert counted("unfinished") == before + 3


@pytest.mark.parametrize(
    ("modes", "kept"),
    [({"output": False}, {"endpointInput"}), ({"input": False}, {"endpointOutput"})],
    ids=["input", "output"],
)
def test_only_the_side_that_is_asked_for(storage: Storage, modes: dict[str, bool], kept: set[str]) -> None:
    capturing = over(storage, ALL.model_copy(update=modes))
    with captured(capturing) as served:
        assert ask(served).status_code == 200
        end(served, capturing)
    (record,) = records(storage)
    assert set(record["captureData"]) == kept


def test_a_share_of_the_requests(storage: Storage) -> None:
    draws = iter([0.0, 0.249, 0.25, 0.9, 0.1])
    capturing = over(storage, ALL.model_copy(update={"sampling_percentage": 25}), draw=lambda: next(draws))
    with captured(capturing) as served:
        for number in range(5):
            ask(served, f"number {number}")
        end(served, capturing)
    asked = [json.loads(record["captureData"]["endpointInput"]["data"])["inputs"] for record in records(storage)]
    assert asked == ["number 0", "number 1", "number 4"]


@pytest.mark.parametrize("capture", [None, ALL.model_copy(update={"enabled": False})], ids=["none", "off"])
def test_nothing_is_captured_that_is_not_asked_for(storage: Storage, capture: Capture | None) -> None:
    capturing = over(storage, capture)
    with captured(capturing) as served:
        assert ask(served).status_code == 200
        end(served, capturing)
    assert records(storage) == []


def test_a_slow_store_costs_the_newest_records_and_no_client_anything(storage: Storage) -> None:
    goes_on, writing = threading.Event(), threading.Event()

    def wait() -> None:
        writing.set()
        assert goes_on.wait(60)

    before = counted("dropped"), counted("captured")
    capturing = Capturing(lambda: Kept(storage, wait), "m", "AllTraffic", most_events=3, flush_bytes=1)
    capturing.aim(ALL)
    with captured(capturing) as served:
        assert ask(served, "first").status_code == 200
        assert writing.wait(60)
        for number in range(5):
            assert ask(served, f"number {number}").status_code == 200
            until(lambda: served.guard.in_flight == 0)
        assert counted("dropped") == before[0] + 2
        goes_on.set()
        end(served, capturing)
    asked = [json.loads(record["captureData"]["endpointInput"]["data"])["inputs"] for record in records(storage)]
    assert sorted(asked) == ["first", "number 0", "number 1", "number 2"]
    assert counted("captured") == before[1] + 4


def test_bytes_are_bounded_and_given_back(storage: Storage) -> None:
    before = counted("too_long"), counted("dropped")
    capturing = over(storage, most_bytes=4096, event_bytes=2048, flush_bytes=1 << 20)
    with captured(capturing) as served:
        assert ask(served, "x" * 3000).status_code == 200
        assert counted("too_long") == before[0] + 1
        for _ in range(10):
            assert ask(served, "y" * 500).status_code == 200
        until(lambda: served.guard.in_flight == 0)
        assert counted("dropped") == before[1] + 7
        held = REGISTRY.get_sample_value(
            "hearth_capture_held_bytes", {"EndpointName": "m", "VariantName": "AllTraffic"}
        )
        assert held is not None
        assert 0 < held <= 4096
        end(served, capturing)
    assert len(records(storage)) == 3
    assert capturing.held == 0


def test_a_full_disk_is_tried_again(storage: Storage) -> None:
    failures = iter([OSError(28, "No space left on device"), ObjectError("InsufficientStorage"), None])

    def fail() -> None:
        if (failure := next(failures)) is not None:
            raise failure

    before = counted("captured")
    capturing = Capturing(
        lambda: Kept(storage, fail), "m", "AllTraffic", flush_bytes=1, retries_s=(0.0, 0.0)
    )
    capturing.aim(ALL)
    with captured(capturing) as served:
        assert ask(served).status_code == 200
        until(lambda: counted("captured") == before + 1)
        end(served, capturing)
    assert len(records(storage)) == 1


def test_what_cannot_be_written_is_given_up_and_counted(storage: Storage) -> None:
    before = counted("failed")
    capturing = over(storage, ALL.model_copy(update={"destination": "s3://nowhere"}), flush_bytes=1)
    with captured(capturing) as served:
        for _ in range(2):
            assert ask(served).status_code == 200
        until(lambda: counted("failed") == before + 2)
        end(served, capturing)
    assert capturing.held == 0


def until(condition: Callable[[], bool]) -> None:
    """Bounded; the capturing's thread has no event for a test to wait for."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("not within a minute")


def test_each_hour_has_files_of_its_own(storage: Storage) -> None:
    capturing = over(storage)
    hours = [datetime(2026, 11, 24, hour, 59, 30, 250000, tzinfo=UTC).timestamp() for hour in (8, 9, 8)]
    for number, at in enumerate(hours):
        capturing.offer(Event(ALL, f"r{number}", at, (), b"1", (), (b"2",), 0))
    capturing.stop()
    found = {
        key.rsplit("-", 5)[0]: [record["eventMetadata"]["eventId"] for record in kept]
        for key, kept in files(storage).items()
    }
    assert found == {
        "deep/down/m/AllTraffic/2026/11/24/08/59-30-250": ["r0", "r2"],
        "deep/down/m/AllTraffic/2026/11/24/09/59-30-250": ["r1"],
    }
    capturing.offer(Event(ALL, "late", hours[0], (), b"1", (), (b"2",), 0))
    assert len(records(storage)) == 3

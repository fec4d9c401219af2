"""Models of several containers: real worker processes and models behind one address, through boto3 and httpx."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from server.dialects.engine import Engines
from server.errors import BadRequest, ModelFailed
from server.replicas import runtimes
from server.spec import ContainerSpec, VariantSpec
from tests.fixtures import brought
from tests.fixtures.brought import ROWS
from tests.fixtures.fake_engines import EchoText, LengthEmbedding, SizeImage, text_engines
from tests.fixtures.replica import Running, running

CSV, JSON = "text/csv", "application/json"

BEFORE = """
    import json, os

    def model_fn(model_dir):
        return float(os.environ["SCALE"])

    def transform_fn(model, body, content_type, accept, context):
        if body == "refuse":
            error = ValueError("no rows here")
            error.status_code = 422
            raise error
        if body == "die":
            os._exit(7)
        rows = [[cell * model for cell in row] for row in json.loads(body)]
        text = "\\n".join(",".join(map(str, row)) for row in rows)
        return text, "text/csv"
"""
AFTER = """
    import json, os

    def model_fn(model_dir):
        return sorted(name for name in os.environ if name in ("SCALE", "NAMES"))

    def transform_fn(model, body, content_type, accept, context):
        seen = dict(type=content_type, accept=accept, saw=model, custom=context.get_request_header(
            0, "X-Amzn-SageMaker-Custom-Attributes"), other=context.get_request_header(
            0, "X-Amzn-SageMaker-Target-Container-Hostname"))
        labels = [os.environ["NAMES"].split(",")[value] for value in json.loads(body)]
        if accept == "text/event-stream":
            return (f"data: {label}\\n\\n" for label in labels), accept
        return json.dumps({"labels": labels, **seen}), "application/vnd.labels+json"
"""


def code(folder: Path, text: str) -> str:
    file = folder / "code" / "inference.py"
    file.parent.mkdir(parents=True)
    file.write_text(textwrap.dedent(text))
    return str(folder)


def pipeline(folder: Path, **more: Any) -> VariantSpec:
    brought.scikit(folder / "model")
    return VariantSpec(
        containers=(
            ContainerSpec(name="before", model=code(folder / "before", BEFORE), env={"SCALE": "2"}),
            ContainerSpec(name="model", model=str(folder / "model")),
            ContainerSpec(name="after", model=code(folder / "after", AFTER), env={"NAMES": "no,yes"}),
        ),
        **more,
    )


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serial")
    with running(pipeline(folder), folder) as replica:
        yield replica


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model = brought.scikit(tmp_path_factory.mktemp("alone") / "model")
    return [("no", "yes")[value] for value in model.predict(ROWS[:4] * 2)]


def test_each_container_answers_what_the_one_before_it_did(serial: Running, expected: list[str]) -> None:
    answer = serial.invoke(json.dumps(ROWS[:4].tolist()), Accept="text/html", CustomAttributes="trace=1")
    assert json.loads(answer["Body"]) == {
        "labels": expected, "type": JSON, "accept": "text/html", "saw": ["NAMES"], "custom": "trace=1", "other": None
    }  # fmt: skip
    assert answer["ContentType"] == "application/vnd.labels+json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_the_last_containers_parts_pass_through(serial: Running, expected: list[str]) -> None:
    answer = serial.stream(json.dumps(ROWS[:4].tolist()), Accept="text/event-stream")
    assert answer["ContentType"] == "text/event-stream"
    got = [event["PayloadPart"]["Bytes"].decode() for event in answer["Body"]]
    assert got == [f"data: {label}\n\n" for label in expected]
    unary = serial.invoke(json.dumps(ROWS[:4].tolist()), Accept="text/event-stream")
    assert unary["Body"].decode() == "".join(got)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("refuse", 422, "client error (422) from before with message"),
        ("[[1, 2]]", 400, "client error (400) from model with message"),
        ("die", 500, "server error (500) from before with message"),
    ],
)
def test_an_error_names_its_container(serial: Running, body: str, status: int, message: str) -> None:
    with pytest.raises(ClientError) as caught:
        serial.invoke(body)
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == status
    assert message in caught.value.response["Error"]["Message"]
    plain = serial.http.post("/invocations", content=body, headers={"content-type": JSON})
    assert plain.status_code == status


def test_a_pipeline_has_no_container_to_choose(serial: Running) -> None:
    with pytest.raises(ClientError, match="is not a multi-container endpoint with direct invocation") as caught:
        serial.invoke("[]", TargetContainerHostname="model")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def workers() -> list[int]:
    """Process ids of the workers that this process has, the oldest first."""
    own = psutil.Process().children()
    return [child.pid for child in sorted(own, key=lambda child: child.pid) if "worker.py" in str(child.cmdline())]


def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_worker_heals(serial: Running, expected: list[str]) -> None:
    eventually(lambda: len(workers()) == 2)
    before = workers()
    os.kill(before[0], signal.SIGKILL)

    def answered() -> bool:
        """False for a request that the dead worker still got."""
        try:
            return bool(json.loads(serial.invoke(json.dumps(ROWS[:4].tolist()))["Body"])["labels"] == expected)
        except ClientError:
            return False

    eventually(answered)
    assert serial.runtime.alive()
    assert before[0] not in workers()
    assert before[1] in workers(), "the other container's worker was not touched"


def test_each_containers_time_is_counted(serial: Running) -> None:
    serial.invoke(json.dumps(ROWS[:4].tolist()))
    lines = serial.http.get("/metrics").text.splitlines()
    counts = {
        name: float(line.rpartition(" ")[2])
        for line in lines
        for name in ("before", "model", "after")
        if line.startswith("ContainerLatency_count{") and f'ContainerName="{name}"' in line
    }
    assert counts["before"] >= counts["model"] >= counts["after"] >= 1
    assert any("hearth_container_errors_total" in line and 'status="4xx"' in line for line in lines)


def test_direct_invocation(tmp_path: Path) -> None:
    variant = pipeline(tmp_path, mode="Direct")
    with running(variant, tmp_path) as replica:
        scaled = replica.invoke("[[1, 2]]", TargetContainerHostname="before")
        assert (scaled["Body"], scaled["ContentType"]) == (b"2.0,4.0", CSV)
        labels = json.loads(replica.invoke("[1, 0]", TargetContainerHostname="after")["Body"])
        assert (labels["labels"], labels["other"]) == (["yes", "no"], None)
        events = replica.stream("[1, 0]", TargetContainerHostname="after", Accept="text/event-stream")["Body"]
        assert [event["PayloadPart"]["Bytes"] for event in events] == [b"data: yes\n\n", b"data: no\n\n"]
        for more, words in (
            ({}, "one of before, model, after"),
            ({"TargetContainerHostname": "beside"}, "none called beside"),
        ):
            for call in (replica.invoke, replica.stream):
                with pytest.raises(ClientError, match=words) as caught:
                    call("[]", **more)
                assert caught.value.response["Error"]["Code"] == "ValidationError"
                assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert replica.http.post("/invocations", content="[]").status_code == 400
        with pytest.raises(ClientError, match="from model with message"):
            replica.invoke("1,2", CSV, TargetContainerHostname="model")


def test_a_container_that_cannot_start_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    broken = ContainerSpec(name="second", model=code(tmp_path / "b", "def model_fn(d): raise OSError('no weights')"))
    first = ContainerSpec(name="first", model=code(tmp_path / "a", "def model_fn(d): return None"))
    with pytest.raises(ModelFailed, match=r"container second: .*no weights"), running(
        VariantSpec(containers=(first, broken)), tmp_path
    ):
        pass
    missing = ContainerSpec(name="second", model=str(tmp_path / "nowhere"))
    with pytest.raises(ModelFailed, match="container second: "), running(
        VariantSpec(containers=(first, missing)), tmp_path
    ):
        pass


def test_one_engine_of_vllm_at_most(tmp_path: Path) -> None:
    each = [ContainerSpec(name=name, model="hearth-python-lm") for name in ("one", "two")]
    with pytest.raises(BadRequest, match="containers one, two need vLLM"), running(
        VariantSpec(containers=tuple(each)), tmp_path
    ):
        pass


@contextmanager
def faked(
    monkeypatch: pytest.MonkeyPatch, folder: Path, engines: Engines, **more: Any
) -> Iterator[Running]:
    """An engine without bodies, whose starting is replaced, and code behind it."""

    async def start(_endpoint: str, _variant: VariantSpec, _loaded: runtimes.Loaded) -> runtimes.Runtime:
        async def stop() -> None:
            return None

        return runtimes.Runtime(engines, lambda: True, lambda: 3, stop)

    monkeypatch.setitem(runtimes.STARTERS, "image-classification", start)
    containers = (
        ContainerSpec(name="first", model="hearth-digits", task="image-classification"),
        ContainerSpec(name="second", model=code(folder / "second", ECHO)),
    )
    with running(VariantSpec(containers=containers, **more), folder) as replica:
        yield replica


ECHO = """
    import json

    def model_fn(model_dir):
        return None

    def transform_fn(model, body, content_type, accept):
        return json.dumps([content_type, body if isinstance(body, str) else body.decode()])
"""


@pytest.mark.parametrize(
    ("engines", "body", "content_type", "answer"),
    [
        (Engines(embedding=LengthEmbedding()), '{"inputs": ["abc"]}', JSON, [[3.0, 1.0]]),
        (Engines(image=SizeImage()), b"12345", "image/png",
         [{"label": "5-0", "score": 0.5}, {"label": "5-1", "score": 0.5}]),
        (Engines(text=EchoText()), '{"inputs": "a b"}', JSON, [{"generated_text": "a b"}]),
    ],
)  # fmt: skip
def test_engines_that_know_no_bodies_are_steps_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engines: Engines, body: Any, content_type: str, answer: Any
) -> None:
    with faked(monkeypatch, tmp_path, engines) as replica:
        seen, text = json.loads(replica.invoke(body, content_type)["Body"])
        assert (seen, json.loads(text)) == (JSON, answer)
        for bad, given, status in (('{"nothing": 1}', JSON, 400), ("x", "text/x-unknown", 415)):
            with pytest.raises(ClientError, match=rf"\({status}\) from first with message"):
                replica.invoke(bad, given)
        assert replica.runtime.tokens() == 3


def test_a_mounted_application_as_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with faked(monkeypatch, tmp_path, text_engines()) as replica:
        def ask(content: str, **more: Any) -> Any:
            return replica.invoke(json.dumps({"messages": [{"role": "user", "content": content}], **more}))

        _, text = json.loads(ask("hello")["Body"])
        assert json.loads(text)["choices"][0]["message"]["content"] == "hello"
        seen, text = json.loads(ask("one two", stream=True)["Body"])
        assert seen.startswith("text/event-stream")
        assert text.count("data: ") == 3
        for content, words in (("bad", r"\(400\) from first .*said bad"), ("crash", r"\(500\) from first")):
            with pytest.raises(ClientError, match=words):
                ask(content)
        with pytest.raises(ClientError, match=r"\(500\) from first .*engine died"):
            ask("one ERROR", stream=True)
        with pytest.raises(ClientError, match=r"\(400\) from first .*n must be an integer"):
            ask("hello", n=10_000)
        with pytest.raises(ClientError, match=r"\(400\) from first .*"):
            replica.invoke('{"inputs": ' + "[" * 500)


def test_a_direct_stream_of_an_engine_ends_when_its_client_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = EchoText(delay_s=0.02)
    with faked(monkeypatch, tmp_path, Engines(text=engine), mode="Direct") as replica:
        short = replica.stream('{"inputs": "a b c"}', TargetContainerHostname="first")
        assert short["ContentType"] == "text/event-stream"
        events = [event["PayloadPart"]["Bytes"] for event in short["Body"]]
        assert len(events) == 3
        aborted = engine.aborted
        left = replica.stream(json.dumps({"inputs": "word " * 199}), TargetContainerHostname="first")
        next(iter(left["Body"]))
        left["Body"].close()
        eventually(lambda: engine.running == 0)
        assert engine.aborted == aborted + 1

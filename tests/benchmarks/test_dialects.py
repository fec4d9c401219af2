from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.client import Origin, Reply
from benchmarks.dialects import Ask, Outcome, dialect, read
from benchmarks.target import Encoder, Keys, Target
from tests.benchmarks.test_framing import frame

ASK = Ask("def f(", 8)


def reply(*pieces: bytes, status: int = 200) -> Reply:
    """A reply whose pieces arrived at seconds 1, 2, 3, ..."""
    return Reply(status, {}, [(float(i), piece) for i, piece in enumerate(pieces, 1)], float(len(pieces)))


def answered(name: str, body: Any, *, stream: bool = False) -> Outcome:
    return read(dialect(name, stream=stream, ignore_eos=True), reply(json.dumps(body).encode()))


def sent(target: Target) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Path, headers and body of the request that a target gets."""
    head, _, body = Encoder(target).encode(ASK).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert int(headers["content-length"]) == len(body)
    return first.split(" ")[1], headers, json.loads(body)


def test_requests_of_each_dialect() -> None:
    base = Target("http://h:1/base", "m", "openai-chat")
    path, headers, body = sent(base)
    assert (path, headers["host"]) == ("/base/v1/chat/completions", "h:1")
    assert body["messages"] == [{"role": "user", "content": "def f("}]
    assert (body["max_tokens"], body["stream"], body["ignore_eos"]) == (8, True, True)
    path, _, body = sent(Target("http://h", "m", "openai-completions", stream=False, ignore_eos=False))
    assert path == "/v1/completions"
    assert body == {"model": "m", "prompt": "def f(", "max_tokens": 8, "temperature": 0}
    path, _, body = sent(Target("http://h", "m", "openai-embeddings"))
    assert (path, body) == ("/v1/embeddings", {"model": "m", "input": "def f("})
    path, _, body = sent(Target("http://h", "ep", "sagemaker", stream=False))
    assert (path, body["inputs"], body["parameters"]["max_new_tokens"]) == ("/endpoints/ep/invocations", "def f(", 8)
    path, _, body = sent(Target("http://h", "ep", "sagemaker-stream", stream=False))
    assert (path, body["stream"]) == ("/endpoints/ep/invocations-response-stream", True)


def test_extra_fields_and_a_key_are_sent() -> None:
    _, headers, body = sent(Target("http://h", "m", api_key="k" * 16, extra={"temperature": 0.7, "seed": 1}))
    assert headers["authorization"] == "Bearer " + "k" * 16
    assert (body["temperature"], body["seed"]) == (0.7, 1)


def test_signed_requests_carry_a_version_4_signature() -> None:
    _, headers, _ = sent(Target("http://h:8080", "ep", "sagemaker", keys=Keys("eu-west-1", "AKID", "secret")))
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert "/eu-west-1/sagemaker/aws4_request" in headers["authorization"]
    assert "x-amz-date" in headers
    assert headers["host"] == "h:8080"


def test_unary_answers() -> None:
    usage = {"completion_tokens": 2, "prompt_tokens": 5}
    chat = answered("openai-chat", {"choices": [{"message": {"content": "ab"}}], "usage": usage})
    assert (chat.status, chat.text, chat.output_tokens, chat.prompt_tokens) == ("200", "ab", 2, 5)
    embedded = answered("openai-embeddings", {"data": [{"embedding": [0.1, 0.2]}], "usage": {"prompt_tokens": 4}})
    assert (embedded.status, embedded.text, embedded.prompt_tokens) == ("200", "2 values", 4)
    told = answered("sagemaker", [{"generated_text": "ab", "details": {"generated_tokens": 2}}])
    assert (told.status, told.text, told.output_tokens) == ("200", "ab", 2)


def test_a_chat_stream_is_read_with_its_usage() -> None:
    events = [{"choices": [{"delta": {"content": text}}]} for text in ("a", "b")]
    last = {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 9}}
    pieces = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in [*events, last]]
    found = read(dialect("openai-chat", stream=True, ignore_eos=True), reply(*pieces, b"data: [DONE]\n\n"))
    assert (found.status, found.text, found.output_tokens, found.prompt_tokens) == ("200", "ab", 2, 9)
    assert list(found.chunks) == [1.0, 2.0]


def test_sagemaker_streams_of_tokens_of_choices_and_of_plain_bytes() -> None:
    spoken = dialect("sagemaker", stream=True, ignore_eos=True)
    tokens = [json.dumps({"token": {"text": text}}).encode() for text in ("a", "b")]
    found = read(spoken, reply(*(frame("PayloadPart", b"data:" + each + b"\n\n") for each in tokens)))
    assert (found.text, found.output_tokens, list(found.chunks)) == ("ab", 2, [1.0, 2.0])
    choices = b'data: {"choices": [{"text": "a"}]}\n\n'
    found = read(spoken, reply(frame("PayloadPart", choices), frame("PayloadPart", b"data: [DONE]\n\n")))
    assert (found.status, found.text, found.output_tokens) == ("200", "a", 1)
    found = read(spoken, reply(frame("PayloadPart", b"xy"), frame("PayloadPart", b"z")))
    assert (found.text, found.output_tokens) == ("xyz", 2)


def test_a_sagemaker_stream_that_breaks_is_counted_by_its_exception() -> None:
    spoken = dialect("sagemaker", stream=True, ignore_eos=True)
    broken = reply(frame("PayloadPart", b"data:x\n\n"), frame("ModelStreamError", b"{}", "exception"))
    assert read(spoken, broken).status == "ModelStreamError"


@pytest.mark.parametrize("name", ["openai-chat", "openai-completions", "openai-embeddings", "sagemaker"])
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"choices": []}', b'{"choices": [1]}', b"3"])
def test_what_is_no_answer_is_unreadable(name: str, body: bytes) -> None:
    spoken = dialect(name, stream=False, ignore_eos=True)
    assert read(spoken, reply(body)).status == "unreadable"
    assert read(spoken, reply(body, status=500)).status == "500"


def test_unknown_dialects_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="openai-chat"):
        dialect("grpc", stream=False, ignore_eos=True)


@pytest.mark.parametrize("url", ["", "h:80", "ftp://h", "http://"])
def test_urls_must_be_http(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL"):
        Origin.parse(url)


def test_origins() -> None:
    assert Origin.parse("https://h/x/").base == "https://h/x"
    assert Origin.parse("http://[::1]:81").authority == "[::1]:81"

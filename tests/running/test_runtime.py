"""What boto3's `sagemaker-runtime` client gets."""

from __future__ import annotations

import base64
import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.fixtures.pictures import digits, plain, png_claiming
from tests.running.conftest import EMBEDDING, LLM, VISION, Hearth


def invoke(runtime: Any, body: Any, endpoint: str = LLM, **more: Any) -> Any:
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(body), **more
    )
    return json.loads(answer["Body"].read())


def test_the_program_of_the_readme_runs_as_it_stands(hearth: Hearth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    answer = boto3.client("sagemaker-runtime", endpoint_url=hearth.url).invoke_endpoint(
        EndpointName="my-llm-endpoint",
        ContentType="application/json",
        Body=json.dumps(
            {
                "inputs": "Jelaskan konsep machine learning dalam 100 kata.",
                "parameters": {"max_new_tokens": 100, "temperature": 0.7},
            }
        ),
    )
    assert json.loads(answer["Body"].read())[0]["generated_text"]
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ContentType"].startswith("application/json")
    assert answer["ResponseMetadata"]["RequestId"]


def test_greedy_text_is_the_same_in_every_dialect(runtime: Any, openai: Any) -> None:
    prompt = "def add(a, b):\n"
    ours = invoke(runtime, {"inputs": prompt, "parameters": {"max_new_tokens": 16, "do_sample": False}})
    theirs = openai.completions.create(model=LLM, prompt=prompt, max_tokens=16, temperature=0)
    assert ours[0]["generated_text"] == theirs.choices[0].text


def test_openai_bodies_are_recognised(runtime: Any) -> None:
    messages = [{"role": "user", "content": "Return one."}]
    answer = invoke(runtime, {"messages": messages, "max_tokens": 4})
    assert answer["object"] == "chat.completion"
    assert invoke(runtime, {"prompt": "x", "max_tokens": 2})["object"] == "text_completion"
    assert len(invoke(runtime, {"input": "x"}, EMBEDDING)["data"][0]["embedding"]) == 384


def test_details_seeds_stops_and_full_text(runtime: Any) -> None:
    parameters = {"max_new_tokens": 12, "details": True, "return_full_text": True, "do_sample": True, "seed": 5}
    first, second = (invoke(runtime, {"inputs": "class ", "parameters": parameters})[0] for _ in range(2))
    assert first == second
    assert first["generated_text"].startswith("class ")
    assert first["details"]["generated_tokens"] == len(first["details"]["tokens"])
    assert first["details"]["finish_reason"] in ("length", "eos_token")
    stopped = invoke(runtime, {"inputs": "import os", "parameters": {"max_new_tokens": 200, "stop": ["\n"]}})
    assert "\n" not in stopped[0]["generated_text"]


def test_penalties_change_greedy_text(runtime: Any) -> None:
    def text(**parameters: Any) -> str:
        greedy = {"max_new_tokens": 24, "do_sample": False, **parameters}
        return str(invoke(runtime, {"inputs": "x = 1\nx = 1\nx = 1\n", "parameters": greedy})[0]["generated_text"])

    assert text() == text()
    assert text() != text(repetition_penalty=1.9)
    assert text() != text(frequency_penalty=2.0, presence_penalty=2.0)


def test_several_inputs_and_several_choices(runtime: Any) -> None:
    batch = invoke(runtime, {"inputs": ["def a", "def b", "def c"], "parameters": {"max_new_tokens": 4}})
    assert len(batch) == 3
    choices = invoke(runtime, {"inputs": "def a", "parameters": {"max_new_tokens": 4, "n": 3, "temperature": 1.0}})
    assert len(choices) == 3


def test_a_stream_yields_parts_as_tokens_are_made(runtime: Any) -> None:
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName=LLM,
        ContentType="application/json",
        Body=json.dumps({"inputs": "import ", "parameters": {"max_new_tokens": 24, "do_sample": False}}),
    )
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    events = [json.loads(line[5:]) for line in b"".join(parts).splitlines() if line.startswith(b"data:")]
    assert len(parts) > 10
    whole = invoke(runtime, {"inputs": "import ", "parameters": {"max_new_tokens": 24, "do_sample": False}})
    assert events[-1]["generated_text"] == whole[0]["generated_text"]
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_embeddings(runtime: Any) -> None:
    vectors = invoke(runtime, {"inputs": ["one", "two"]}, EMBEDDING)
    assert [len(vector) for vector in vectors] == [384, 384]


def test_images_as_bytes_and_as_json(runtime: Any) -> None:
    right = 0
    for png, label in digits(30):
        answer = runtime.invoke_endpoint(EndpointName=VISION, ContentType="image/png", Body=png)
        best = json.loads(answer["Body"].read())[0]
        right += best["label"] == label
        as_json = invoke(runtime, {"inputs": base64.b64encode(png).decode(), "parameters": {"top_k": 1}}, VISION)
        assert as_json[0]["label"] == best["label"]
    assert right >= 27


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"n": 10**6}, "n"),
        ({"max_new_tokens": "many"}, "max_new_tokens"),
        ({"tempereture": 1}, "tempereture"),
        ({"stop": ["x"] * 1000}, "stop"),
    ],
)
def test_a_bad_parameter_is_named(runtime: Any, parameters: Any, words: str) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        invoke(runtime, {"inputs": "x", "parameters": parameters})
    assert isinstance(caught.value, runtime.exceptions.ModelError)
    assert caught.value.response["OriginalStatusCode"] == 400


def test_a_prompt_over_the_context_is_refused(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ModelError):
        invoke(runtime, {"inputs": "x " * 20_000})


def test_a_ten_megabyte_prompt_is_refused_by_its_size(runtime: Any) -> None:
    with pytest.raises(ClientError) as caught:
        invoke(runtime, {"inputs": "x" * 10_000_000})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 413, 424)
    assert invoke(runtime, {"inputs": "x", "parameters": {"max_new_tokens": 1}})


def test_an_unknown_endpoint_is_a_validation_error(runtime: Any) -> None:
    with pytest.raises(ClientError, match="Endpoint nobody of account 123456789012 not found") as caught:
        invoke(runtime, {"inputs": "x"}, "nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize(
    ("endpoint", "content_type", "body"),
    [
        (LLM, "application/json", b"{"),
        (LLM, "application/json", b"[" * 100_000),
        (LLM, "application/json", b'{"neither": 1}'),
        (LLM, "image/png", plain(8, 8)),
        (LLM, "text/nonsense", b"x"),
        (LLM, "application/json", b"\xff\xfe"),
        (VISION, "image/png", b"no image"),
        (VISION, "image/png", plain(8, 8)[:40]),
        (VISION, "image/png", png_claiming(60_000, 60_000)),
        (VISION, "application/json", b'{"inputs": "not base64!"}'),
    ],
)
def test_bad_bodies_are_model_errors(runtime: Any, endpoint: str, content_type: str, body: bytes) -> None:
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        runtime.invoke_endpoint(EndpointName=endpoint, ContentType=content_type, Body=body)
    assert 400 <= caught.value.response["OriginalStatusCode"] < 500
    assert "Traceback" not in str(caught.value)


def test_custom_attributes_come_back(runtime: Any) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName=VISION, ContentType="image/png", Body=digits(1)[0][0], CustomAttributes="trace=1"
    )
    assert answer["CustomAttributes"] == "trace=1"

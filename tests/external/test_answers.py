"""Each provider through OpenAI's routes and SageMaker's invocations, by their own clients, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import BadRequestError

from tests.external.conftest import Serve, anthropic_at, bedrock_at, openai_at
from tests.external.providers import KEY, SECRET, Provider

SAY: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three"}]
READ = {"openai": 11, "anthropic": 11, "bedrock": 13, "titan": 3}


def option(kind: str, provider: Provider) -> dict[str, Any]:
    if kind == "titan":
        return bedrock_at(provider, "amazon.titan-text-express-v1", api="invoke")
    return {"openai": openai_at, "anthropic": anthropic_at, "bedrock": bedrock_at}[kind](provider)


@pytest.fixture(params=list(READ))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_chat(serve: Serve, provider: Provider, kind: str) -> None:
    client = serve(option(kind, provider)).openai()
    whole = client.chat.completions.create(model="m", messages=SAY[1:], max_tokens=9)
    assert whole.choices[0].message.content == "one two three"
    assert whole.choices[0].finish_reason == ("length" if kind == "bedrock" else "stop")
    assert whole.model == "m"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (READ[kind], 3)
    stream = client.chat.completions.create(
        model="m", messages=SAY[1:], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert parts == ["one ", "two ", "three"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (READ[kind], 3)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason] == ["length" if kind == "titan" else "stop"]


def test_inputs_as_sagemaker_has_them(serve: Serve, provider: Provider, kind: str) -> None:
    runtime = serve(option(kind, provider)).boto3()
    body = {"inputs": "one two three", "parameters": {"max_new_tokens": 7, "temperature": 0.5}}
    answer = runtime.invoke_endpoint(EndpointName="m", Body=json.dumps(body), ContentType="application/json")
    assert json.loads(answer["Body"].read()) == [{"generated_text": "one two three"}]
    stream = runtime.invoke_endpoint_with_response_stream(EndpointName="m", Body=json.dumps({**body, "stream": True}))
    lines = b"".join(event["PayloadPart"]["Bytes"] for event in stream["Body"]).decode().split("\n\n")
    events = [json.loads(line.removeprefix("data:")) for line in lines if line]
    assert "".join(event["token"]["text"] for event in events) == "one two three"
    assert events[-1]["generated_text"] == "one two three"
    sent = json.dumps(provider.asked[0][2])
    assert "7" in sent
    assert "0.5" in sent


def test_messages_as_an_invocation(serve: Serve, provider: Provider, kind: str) -> None:
    runtime = serve(option(kind, provider)).boto3()
    body = json.dumps({"messages": SAY[1:]})
    answer = runtime.invoke_endpoint(EndpointName="m", Body=body, ContentType="application/json")
    assert json.loads(answer["Body"].read())["choices"][0]["message"]["content"] == "one two three"


def test_what_providers_are_sent(serve: Serve, provider: Provider) -> None:
    asked: dict[str, Any] = {"model": "m", "messages": SAY, "max_tokens": 9, "stop": ["END"], "top_p": 0.5}
    for kind in ("openai", "anthropic", "bedrock"):
        serve(option(kind, provider)).openai().chat.completions.create(**asked)
    (_, theirs, openai), (_, headers, anthropic), (path, signed, bedrock) = provider.asked
    assert openai == {**asked, "model": "gpt-x", "stream": False}
    assert theirs["authorization"] == f"Bearer {KEY}"
    assert anthropic == {
        "model": "claude-x", "max_tokens": 9, "stream": False, "system": "Be brief.", "top_p": 0.5,
        "stop_sequences": ["END"],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "one two three"}]}],
    }  # fmt: skip
    assert headers["x-api-key"] == KEY
    assert path == "/model/amazon.titan-text-premier-v1:0/converse"
    assert bedrock == {
        "system": [{"text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"text": "one two three"}]}],
        "inferenceConfig": {"maxTokens": 9, "topP": 0.5, "stopSequences": ["END"]},
    }
    assert SECRET not in json.dumps(signed)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tools_of_anthropic(serve: Serve, provider: Provider, stream: bool) -> None:
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    answer: Any = serve(anthropic_at(provider)).openai().chat.completions.create(
        model="m", messages=SAY, tools=[tool], tool_choice="required", stream=stream
    )
    if stream:
        deltas = [call for chunk in answer for call in chunk.choices[0].delta.tool_calls or ()]
        assert (deltas[0].id, deltas[0].function.name) == ("toolu_1", "weather")
        called = "".join(call.function.arguments for call in deltas)
    else:
        assert answer.choices[0].finish_reason == "tool_calls"
        called = answer.choices[0].message.tool_calls[0].function.arguments
    assert json.loads(called) == {"city": "Bern"}
    assert provider.asked[0][2]["tool_choice"] == {"type": "any"}
    assert provider.asked[0][2]["tools"][0]["input_schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("kind", "field"), [("anthropic", "seed"), ("bedrock", "logprobs"), ("anthropic", "response_format")]
)
def test_what_a_provider_has_no_form_for_is_refused(serve: Serve, provider: Provider, kind: str, field: str) -> None:
    values: dict[str, Any] = {"seed": 3, "logprobs": True, "response_format": {"type": "json_object"}}
    more: dict[str, Any] = {field: values[field]}
    with pytest.raises(BadRequestError, match=f"{field} is not supported"):
        serve(option(kind, provider)).openai().chat.completions.create(model="m", messages=SAY, **more)
    assert provider.asked == []


@pytest.mark.parametrize("kind", ["openai", "titan"])
def test_embeddings(serve: Serve, provider: Provider, kind: str) -> None:
    chosen = openai_at(provider) if kind == "openai" else bedrock_at(provider, "amazon.titan-embed-text-v2:0")
    served = serve(chosen, serves="embeddings")
    found = served.openai().embeddings.create(model="m", input=["four", "sixsix"])
    assert [row.embedding[0] for row in found.data] == [4.0, 6.0]
    assert found.usage.prompt_tokens == (7 if kind == "openai" else 2)
    answer = served.boto3().invoke_endpoint(EndpointName="m", Body=json.dumps({"inputs": ["four"]}))
    assert json.loads(answer["Body"].read())[0][0] == 4.0

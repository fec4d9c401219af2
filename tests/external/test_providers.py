"""The stand-ins speak as the providers do: their own clients understand them, and are refused as there."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.external.providers import ACCESS, KEY, REGION, SECRET, Provider

SAID = [{"role": "user", "content": [{"text": "one two three"}]}]


def bedrock(provider: Provider, secret: str = SECRET) -> Any:
    return boto3.client(
        "bedrock-runtime", endpoint_url=provider.url, region_name=REGION, aws_access_key_id=ACCESS,
        aws_secret_access_key=secret, config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


def test_boto3_understands_bedrock(provider: Provider) -> None:
    with closing(bedrock(provider)) as client:
        whole = client.converse(modelId="amazon.titan:0", messages=SAID)
        assert whole["output"]["message"]["content"] == [{"text": "one two three"}]
        events = list(client.converse_stream(modelId="amazon.titan:0", messages=SAID)["stream"])
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)
    assert text == "one two three"
    assert events[-1]["metadata"]["usage"]["inputTokens"] == 13


def test_bedrock_wants_a_signature(provider: Provider) -> None:
    with closing(bedrock(provider, "another")) as client, pytest.raises(ClientError, match="security token"):
        client.converse(modelId="amazon.titan:0", messages=SAID)


def test_openais_client_understands_openai(provider: Provider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(
            model="gpt-x", messages=[{"role": "user", "content": "one two"}], stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2

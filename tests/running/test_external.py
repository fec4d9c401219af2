"""External models on the running Hearth: made by boto3 and by a document, asked by boto3 and openai's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from openai import OpenAI, RateLimitError
from prometheus_client.parser import text_string_to_metric_families

from tests.external.conftest import anthropic_at, openai_at
from tests.external.providers import KEY, Provider, providing
from tests.running.conftest import Hearth
from tests.running.test_control import TINY, WAIT, in_service, removed, sagemaker  # noqa: F401 - a fixture

NAME, OTHER = "outside", "outside-limited"
ROLE = "arn:aws:iam::123456789012:role/hearth"
SAY: Any = [{"role": "user", "content": "one two three"}]


@pytest.fixture(scope="module")
def provider(hearth: Hearth) -> Iterator[Provider]:
    state = ["--state", str(hearth.state_dir)]
    put = hearth.cli("secrets", "put", "openai", *state, typed=KEY)
    assert put.returncode == 0, put.stderr
    with providing() as made:
        yield made
    hearth.cli("secrets", "delete", "openai", *state)


@pytest.fixture(scope="module")
def endpoint(provider: Provider, sagemaker: Any) -> Iterator[Any]:  # noqa: F811
    """SageMaker's client; the endpoint's model is Anthropic's, and another's where that one does not answer."""
    environ = {"EXTERNAL_PROVIDERS": json.dumps([anthropic_at(provider), openai_at(provider)]), "EXTERNAL_RETRIES": "0"}
    container = {"Image": "hearth/external", "Environment": environ}
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {**TINY, "VariantName": "AllTraffic", "ModelName": NAME}
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    in_service(sagemaker, NAME)
    yield sagemaker
    sagemaker.delete_endpoint(EndpointName=NAME)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=NAME, WaiterConfig=WAIT)
    removed(lambda: sagemaker.delete_endpoint_config(EndpointConfigName=NAME))
    removed(lambda: sagemaker.delete_model(ModelName=NAME))


def test_a_providers_model_answers_as_an_endpoint(
    hearth: Hearth, endpoint: Any, provider: Provider, runtime: Any, openai: OpenAI
) -> None:
    whole = openai.chat.completions.create(model=NAME, messages=SAY)
    assert whole.choices[0].message.content == "one two three"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 14
    stream = openai.chat.completions.create(model=NAME, messages=SAY, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "one two three"
    body = json.dumps({"inputs": "one two three"})
    answer = runtime.invoke_endpoint(EndpointName=NAME, Body=body, ContentType="application/json")
    assert json.loads(answer["Body"].read()) == [{"generated_text": "one two three"}]
    provider.fail(529)
    assert openai.chat.completions.create(model=NAME, messages=SAY).choices[0].message.content == "one two three"
    assert provider.asked[-1][0] == "/v1/chat/completions"
    hearth.wait("its tokens among the metrics", lambda: tokens(hearth) == {"claude-x": 42.0, "gpt-x": 14.0})


def tokens(hearth: Hearth) -> dict[str, float]:
    """Read and written so far, by the provider's model."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(hearth.http.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "hearth_external_tokens_total" and sample.labels["EndpointName"] == NAME:
                model = sample.labels["model"]
                found[model] = found.get(model, 0.0) + sample.value
    return found


def test_its_key_is_nowhere_to_be_seen(hearth: Hearth, endpoint: Any) -> None:
    assert KEY not in json.dumps(endpoint.describe_model(ModelName=NAME), default=str)
    assert KEY not in hearth.http.get("/hearth/endpoints").text
    logs = [file for file in (hearth.state_dir / "logs").rglob("*") if file.is_file()]
    assert logs
    assert not [file.name for file in logs if KEY.encode() in file.read_bytes()]


def test_a_budget_outlives_the_replica(hearth: Hearth, provider: Provider, runtime: Any, openai: OpenAI) -> None:
    document = {
        "model": "external", "resources": {"num_cpus": 0.1},
        "engine": {"providers": [openai_at(provider)], "budget": {"tokens-per-day": 14}},
    }  # fmt: skip
    path = f"/hearth/endpoints/{OTHER}"
    assert hearth.http.put(path, json=document).status_code == 202
    try:
        hearth.wait("the endpoint", lambda: hearth.endpoints()[OTHER]["status"] == "InService")
        assert openai.chat.completions.create(model=OTHER, messages=SAY).choices[0].message.content == "one two three"
        with pytest.raises(RateLimitError):
            openai.chat.completions.create(model=OTHER, messages=SAY)
        (before,) = hearth.replicas(OTHER)
        document["env"] = {"TZ": "UTC"}  # another revision, and so another replica
        hearth.http.put(path, json=document)
        hearth.wait(
            "another replica",
            lambda: [each["replica_id"] for each in hearth.replicas(OTHER)] not in ([], [before["replica_id"]])
            and len(hearth.replicas(OTHER)) == 1,
        )
        with pytest.raises(ClientError) as caught:
            runtime.invoke_endpoint(EndpointName=OTHER, Body='{"inputs": "x"}', ContentType="application/json")
        assert caught.value.response["Error"]["Code"] == "ThrottlingException"
    finally:
        hearth.http.delete(path)
        hearth.wait("its end", lambda: OTHER not in hearth.endpoints())

"""A language model through sagemaker-core's resources: create, wait, invoke, stream, delete."""

from __future__ import annotations

import json
import uuid
from typing import Any

import boto3
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

NAME = f"llm-{uuid.uuid4().hex[:8]}"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.34.0-lmi17.0.0-cu128"
PROMPT = {"inputs": "def fibonacci(n):", "parameters": {"max_new_tokens": 24, "temperature": 0.7}}
TINY_CACHE = {"VLLM_CPU_KVCACHE_SPACE": "1", "OPTION_ENFORCE_EAGER": "true", "OPTION_MAX_MODEL_LEN": "1024"}


def invoked(endpoint: Endpoint) -> str:
    answer = endpoint.invoke(body=json.dumps(PROMPT), content_type="application/json")
    assert answer.invoked_production_variant == "AllTraffic"
    return str(json.loads(answer.body.read())[0]["generated_text"])


def streamed(runtime: Any) -> list[str]:
    """The tokens, as they come. `Endpoint.invoke_with_response_stream` of SDK 3.27 cannot read any stream."""
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName=NAME, Body=json.dumps({**PROMPT, "stream": True}), ContentType="application/json"
    )
    text = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]).decode()
    events = [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:{")]
    return [event["token"]["text"] for event in events]


def main() -> None:
    account = boto3.client("sts").get_caller_identity()["Account"]
    model = Model.create(
        model_name=NAME,
        primary_container=ContainerDefinition(
            image=IMAGE, environment={"HF_MODEL_ID": "hearth-python-lm", **TINY_CACHE}
        ),
        execution_role_arn=f"arn:aws:iam::{account}:role/hearth",
    )
    variant = ProductionVariant(
        variant_name="AllTraffic", model_name=NAME, instance_type="ml.g5.xlarge", initial_instance_count=1
    )
    config = EndpointConfig.create(endpoint_config_name=NAME, production_variants=[variant])
    endpoint = Endpoint.create(endpoint_name=NAME, endpoint_config_name=NAME)
    try:
        endpoint.wait_for_status("InService", poll=2, timeout=500)
        print(invoked(endpoint))
        tokens = streamed(Session().sagemaker_runtime_client)
        print("".join(tokens))
        assert len(tokens) > 1
    finally:
        endpoint.delete()
        endpoint.wait_for_delete(poll=1, timeout=120)
        config.delete()
        model.delete()


if __name__ == "__main__":
    main()

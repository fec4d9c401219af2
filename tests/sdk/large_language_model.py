"""A language model through sagemaker-core's resources: create, wait, invoke, stream, delete."""

from __future__ import annotations

import json
import uuid

from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

ROLE = "arn:aws:iam::123456789012:role/hearth"
NAME = f"llm-{uuid.uuid4().hex[:8]}"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.34.0-lmi17.0.0-cu128"
PROMPT = {"inputs": "def fibonacci(n):", "parameters": {"max_new_tokens": 24, "temperature": 0.7}}


def main() -> None:
    model = Model.create(
        model_name=NAME,
        primary_container=ContainerDefinition(image=IMAGE, environment={"HF_MODEL_ID": "hearth-python-lm"}),
        execution_role_arn=ROLE,
    )
    variant = ProductionVariant(
        variant_name="AllTraffic", model_name=NAME, instance_type="ml.g5.xlarge", initial_instance_count=1
    )
    config = EndpointConfig.create(endpoint_config_name=NAME, production_variants=[variant])
    endpoint = Endpoint.create(endpoint_name=NAME, endpoint_config_name=NAME)
    try:
        endpoint.wait_for_status("InService", poll=2, timeout=400)
        answer = endpoint.invoke(body=json.dumps(PROMPT), content_type="application/json")
        print("invoked:", json.loads(answer.body.read())[0]["generated_text"])
        streamed = endpoint.invoke_with_response_stream(
            body=json.dumps({**PROMPT, "stream": True}), content_type="application/json"
        )
        parts = [event["PayloadPart"]["Bytes"] for event in streamed.body]
        print("streamed", len(parts), b"".join(parts)[:200])
    finally:
        endpoint.delete()
        endpoint.wait_for_delete(poll=1, timeout=120)
        config.delete()
        model.delete()


if __name__ == "__main__":
    main()

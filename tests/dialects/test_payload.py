"""Invocations of an engine that takes bodies as they come, through the real boto3 client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server.dialects.engine import Answer, Engines, Invocation
from server.errors import ModelFailed, UnsupportedMedia
from server.spec import Limits
from tests.fixtures.served import guarded, serving


class Mirror:
    """Answers with what it was given; some bodies make it fail."""

    async def invoke(self, invocation: Invocation) -> Answer:
        if invocation.body == b"415":
            raise UnsupportedMedia("not this one", field="ContentType")
        if invocation.body == b"500":
            raise ModelFailed("broken inside")
        if invocation.body == b"bug":
            raise RuntimeError("secret detail")
        custom = invocation.headers.get("x-amzn-sagemaker-custom-attributes", "")
        said = [invocation.content_type, invocation.accept, custom, *sorted(invocation.headers)]
        return Answer("|".join(said).encode() + b"|" + invocation.body, "application/x-mirror")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with serving(guarded(Engines(payload=Mirror()), Limits(max_body_bytes=1000))) as running:
        yield running.boto3()


def test_bodies_types_and_headers_arrive_as_sent(client: Any) -> None:
    answer = client.invoke_endpoint(
        EndpointName="m", ContentType="Text/CSV; header=absent", Accept="application/X-thing", Body=b"\x00\xff{",
        CustomAttributes="trace=1",
    )  # fmt: skip
    assert answer["ContentType"] == "application/x-mirror"
    assert answer["CustomAttributes"] == "trace=1"
    content_type, accept, custom, *names, body = answer["Body"].read().split(b"|")
    assert (content_type, accept, custom) == (b"Text/CSV; header=absent", b"application/X-thing", b"trace=1")
    assert body == b"\x00\xff{"
    assert b"authorization" not in names


@pytest.mark.parametrize("body", [b'{"n": 16384, "data": [1]}', b"{broken", b"[" * 500, b""])
def test_json_is_nobodys_business_but_the_engines(client: Any, body: bytes) -> None:
    answer = client.invoke_endpoint(EndpointName="m", ContentType="application/json", Body=body)
    assert answer["Body"].read().endswith(b"|" + body)


def test_a_stream_carries_the_whole_answer(client: Any) -> None:
    answer = client.invoke_endpoint_with_response_stream(EndpointName="m", ContentType="a/b", Accept="c/d", Body=b"x")
    assert answer["ContentType"] == "application/x-mirror"
    said = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    assert said.startswith(b"a/b|c/d|")


@pytest.mark.parametrize(("body", "status", "said"), [(b"415", 415, "not this one"), (b"500", 500, "broken inside"),
                                                     (b"bug", 500, "the model failed while answering")])  # fmt: skip
def test_the_engines_errors_are_the_models(client: Any, body: bytes, status: int, said: str) -> None:
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(EndpointName="m", Body=body)
    assert caught.value.response["OriginalStatusCode"] == status
    assert said in caught.value.response["OriginalMessage"]


def test_the_guard_still_bounds_the_body(client: Any) -> None:
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint(EndpointName="m", Body=b"x" * 1001)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413

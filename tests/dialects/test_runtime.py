"""SageMaker Runtime through the real boto3 client."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.eventstream import EventStream
from botocore.exceptions import ClientError, EventStreamError

from server.dialects.engine import Engines
from server.dialects.identity import Identity
from tests.fixtures.fake_engines import CONTEXT, EchoText, LengthEmbedding, OpenAIApp, SizeImage, text_engines
from tests.fixtures.served import Served, guarded, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(guarded(text_engines())) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return served.boto3()


def invoke(client: Any, body: dict[str, Any] | bytes, **more: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body)
    answer = client.invoke_endpoint(**{"EndpointName": "m", "ContentType": "application/json", "Body": raw, **more})
    return json.loads(answer["Body"].read())


def refused(client: Any, body: dict[str, Any] | bytes, **more: Any) -> dict[str, Any]:
    """The error that the client raises, as botocore parsed it."""
    with pytest.raises(ClientError) as caught:
        invoke(client, body, **more)
    assert type(caught.value).__name__ == caught.value.response["Error"]["Code"] or type(caught.value) is ClientError
    return caught.value.response  # type: ignore[no-any-return]


def parts(stream: EventStream) -> list[bytes]:
    with closing(stream):
        return [event["PayloadPart"]["Bytes"] for event in stream]


def stream(client: Any, body: dict[str, Any], **more: Any) -> Any:
    return client.invoke_endpoint_with_response_stream(
        EndpointName="m", ContentType="application/json", Body=json.dumps(body), **more
    )


def test_the_program_of_the_issue() -> None:
    with serving(guarded(text_engines(), identity=Identity("my-llm-endpoint", "AllTraffic", "r"))) as served:
        answer = served.boto3().invoke_endpoint(
            EndpointName="my-llm-endpoint",
            ContentType="application/json",
            Body=json.dumps(
                {
                    "inputs": "Jelaskan konsep machine learning dalam 100 kata.",
                    "parameters": {"max_new_tokens": 100, "temperature": 0.7},
                }
            ),
        )
        assert json.loads(answer["Body"].read()) == [
            {"generated_text": "Jelaskan konsep machine learning dalam 100 kata."}
        ]
        assert answer["InvokedProductionVariant"] == "AllTraffic"
        assert answer["ContentType"] == "application/json"


def test_answers_carry_sagemakers_headers(client: Any) -> None:
    answer = client.invoke_endpoint(
        EndpointName="m",
        ContentType="application/json",
        Accept="application/json",
        CustomAttributes="trace=1; x",
        TargetVariant="AllTraffic",
        InferenceId="mine",
        SessionId="s-1",
        Body=b'{"inputs": "a"}',
    )
    assert answer["CustomAttributes"] == "trace=1; x"
    assert answer["ResponseMetadata"]["RequestId"] == answer["ResponseMetadata"]["HTTPHeaders"]["x-request-id"]


def test_shapes_of_answers(client: Any) -> None:
    assert invoke(client, {"inputs": "a b"}) == [{"generated_text": "a b"}]
    assert invoke(client, {"inputs": ["a", "b c"]}) == [[{"generated_text": "a"}], [{"generated_text": "b c"}]]
    two = invoke(client, {"inputs": "a b", "parameters": {"n": 2}})
    assert two == [{"generated_text": "a b"}] * 2
    full = invoke(client, {"inputs": "a b", "parameters": {"return_full_text": True, "max_new_tokens": 1}})
    assert full == [{"generated_text": "a ba"}]


def test_details_are_text_generation_inferences(client: Any) -> None:
    parameters = {"decoder_input_details": True, "top_n_tokens": 2, "seed": 3, "best_of": 2, "max_new_tokens": 1}
    ((entry),) = invoke(client, {"inputs": "a b", "parameters": {**parameters, "do_sample": True}})
    details = entry["details"]
    assert details["finish_reason"] == "length"
    assert details["generated_tokens"] == 1
    assert details["seed"] == 3
    assert [token["text"] for token in details["prefill"]] == ["a", "b"]
    assert details["tokens"] == [{"id": 0, "text": "a", "logprob": -0.1, "special": False}]
    assert [alternative["text"] for alternative in details["top_tokens"][0]] == ["alt0", "alt1"]
    (other,) = details["best_of_sequences"]
    assert other["tokens"][0]["logprob"] == -0.2, "the likelier sequence is the answer"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": [{"role": "user", "content": "hi there"}]}, "hi there"),
        ({"prompt": "hi", "model": "m"}, "hi"),
    ],
)
def test_openai_bodies_are_recognised(client: Any, body: dict[str, Any], said: str) -> None:
    answer = invoke(client, body)
    assert answer["choices"][0]["message"]["content"] == said
    assert answer["model"] == "m"


def test_a_stream_gives_parts_as_tokens_are_made(client: Any) -> None:
    answer = stream(client, {"inputs": "a b c"}, Accept="text/event-stream", CustomAttributes="x=1")
    assert answer["ContentType"] == "text/event-stream"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "x=1"
    events = [json.loads(part.removeprefix(b"data:")) for part in parts(answer["Body"])]
    assert [event["token"]["text"] for event in events] == ["a", " b", " c"]
    assert [event["index"] for event in events] == [1, 2, 3]
    assert [event["generated_text"] for event in events] == [None, None, "a b c"]
    assert events[-1]["details"] is None


def test_a_streams_last_event_has_the_details(client: Any) -> None:
    body = {"inputs": "a b", "parameters": {"details": True, "seed": 1}, "stream": True}
    last = json.loads(parts(stream(client, body)["Body"])[-1].removeprefix(b"data:"))
    assert last["details"] == {"finish_reason": "eos_token", "generated_tokens": 2, "seed": 1, "input_length": 2}


def test_parts_arrive_before_the_answer_is_complete() -> None:
    with serving(guarded(text_engines(EchoText(delay_s=0.05)))) as served:
        answer = stream(served.boto3(), {"inputs": " ".join(["w"] * 100)})
        first = next(iter(answer["Body"]))
        assert b"generated_text" in first["PayloadPart"]["Bytes"]
        assert served.guard.in_flight == 1
        answer["Body"].close()


def test_openai_streams_pass_as_they_are(client: Any) -> None:
    answer = stream(client, {"messages": [{"role": "user", "content": "a b"}], "stream": True})
    data = b"".join(parts(answer["Body"]))
    assert data.startswith(b'data: {"id":"c1"')
    assert data.endswith(b"data: [DONE]\n\n")


def test_a_whole_answer_on_the_stream_is_one_part(client: Any) -> None:
    answer = stream(client, {"inputs": "a", "stream": False})
    assert [json.loads(part) for part in parts(answer["Body"])] == [[{"generated_text": "a"}]]
    answer = stream(client, {"messages": [{"role": "user", "content": "a"}]})
    assert json.loads(b"".join(parts(answer["Body"])))["object"] == "chat.completion"


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "a MIDWAY b"},
        {"messages": [{"role": "user", "content": "a CRASH b"}], "stream": True},
        {"messages": [{"role": "user", "content": "a ERROR b"}], "stream": True},
    ],
)
def test_what_breaks_midway_raises_model_stream_error(client: Any, body: dict[str, Any]) -> None:
    seen: list[Any] = []
    with closing(stream(client, body)["Body"]) as events, pytest.raises(EventStreamError) as caught:
        seen.extend(iter(events))
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert "secret" not in str(caught.value)
    assert seen


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"inputs": ', 400, "not valid JSON"),
        (b"\xff\xfe", 400, "not UTF-8"),
        ({"inputs": "a", "parameters": {"top_p": 2}}, 400, "top_p must be a number above 0, at most 1; 2 was given"),
        ({"inputs": "a", "parameters": {"topp": 2}}, 400, "known are"),
        ({"inputs": "a", "parameters": []}, 400, "parameters must be an object, not an array"),
        ({"inputs": 1}, 400, "inputs must be"),
        ({"inputs": []}, 400, "inputs must be"),
        ({"inputs": "a", "paramters": {}}, 400, "paramters is unknown"),
        ({"inputs": "a", "stream": "yes"}, 400, "stream must be true or false"),
        ({"inputs": ["a", "b"], "stream": True}, 400, "one string"),
        ({"inputs": ["a"] * 257}, 400, "at most 256"),
        ({"inputs": ["a"] * 64, "parameters": {"n": 16}}, 400, "at most 256"),
        ({"inputs": "a", "model": "other"}, 400, "model must be m"),
        ({"messages": [], "model": "other"}, 400, "model must be m"),
        ({"nothing": "a"}, 400, "inputs, messages, prompt"),
        ({"inputs": "w " * (CONTEXT + 1)}, 400, f"the context is {CONTEXT}"),
        ({"messages": [{"role": "user", "content": "bad"}]}, 400, "said bad"),
        ({"messages": [], "n": 10**6}, 400, "n must be an integer from 1 to 16"),
        ({"inputs": "BREAK"}, 500, "the model failed"),
        ({"messages": [{"role": "user", "content": "crash"}]}, 500, "the model failed"),
    ],
)
def test_a_bad_payload_is_a_model_error(client: Any, body: Any, status: int, words: str) -> None:
    answer = refused(client, body)
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == status
    assert words in answer["OriginalMessage"]
    assert answer["LogStreamArn"].startswith("arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/m")
    assert "secret" not in str(answer)
    assert "Traceback" not in str(answer)
    with pytest.raises(client.exceptions.ModelError):
        invoke(client, body)


def test_a_wrong_content_type_names_what_is_accepted(client: Any) -> None:
    answer = refused(client, b"a,b", ContentType="text/csv")
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 415)
    assert "application/json" in answer["OriginalMessage"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"EndpointName": "nope"}, "Endpoint nope of account 123456789012 not found."),
        ({"TargetVariant": "Other"}, "variant Other"),
        ({"CustomAttributes": "x" * 1025}, "1025 characters"),
        (
            {"TargetModel": "a.tar.gz"},
            "Endpoint m is not a multi-model endpoint and does not support target model header.",
        ),
        ({"InferenceComponentName": "c"}, "is not allowed for endpoint m"),
        ({"SessionId": "NEW_SESSION"}, "sessions"),
        ({"Accept": "text/csv"}, "text/csv"),
    ],
)
def test_a_bad_request_is_a_validation_error(client: Any, more: dict[str, str], words: str) -> None:
    answer = refused(client, {"inputs": "a"}, **more)
    assert answer["Error"]["Code"] == "ValidationError"
    assert words in answer["Error"]["Message"]
    with pytest.raises(client.exceptions.ValidationError):
        invoke(client, {"inputs": "a"}, **more)


def test_embeddings_are_an_array_of_vectors() -> None:
    with serving(guarded(Engines(embedding=LengthEmbedding()))) as served:
        client = served.boto3()
        assert invoke(client, {"inputs": "abc"}) == [[3.0, 1.0]]
        assert invoke(client, {"inputs": ["abc", "a"]}) == [[3.0, 1.0], [1.0, 1.0]]
        assert "has none" in refused(client, {"inputs": "a", "parameters": {"top_k": 1}})["OriginalMessage"]
        assert b"".join(parts(stream(client, {"inputs": "a"})["Body"])) == b"[[1.0,1.0]]"


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "application/x-image", "application/octet-stream"])
def test_images_as_they_are(content_type: str) -> None:
    with serving(guarded(Engines(image=SizeImage()))) as served:
        client = served.boto3()
        answer = invoke(client, b"12345", ContentType=content_type)
        assert answer == [{"label": "5-0", "score": 0.5}, {"label": "5-1", "score": 0.5}]
        assert refused(client, b"no image", ContentType=content_type)["OriginalStatusCode"] == 400


def test_images_in_json() -> None:
    with serving(guarded(Engines(image=SizeImage(boxes=True)))) as served:
        client = served.boto3()
        box = {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}
        one = {"label": "3-0", "score": 0.5, "box": box}
        top_1 = {"parameters": {"top_k": 1}}
        assert invoke(client, {"inputs": "QUJD", **top_1}) == [one]
        assert invoke(client, {"inputs": ["data:image/png;base64,QUJD"] * 2, **top_1}) == [[one], [one]]
        for wrong in ("!", "http://localhost/a.png", "file:///etc/passwd", "data:image/png,abc", 1, [], [1]):
            assert refused(client, {"inputs": wrong})["OriginalStatusCode"] == 400
        assert "image/jpeg" in refused(client, b"x", ContentType="text/csv")["OriginalMessage"]


def test_the_mounted_application_learns_the_request_id() -> None:
    app = OpenAIApp()
    with serving(guarded(text_engines(openai=app))) as served:
        answer = served.boto3().invoke_endpoint(
            EndpointName="m", Body=b'{"prompt": "x"}', ContentType="application/json"
        )
        assert app.headers[-1]["x-request-id"] == answer["ResponseMetadata"]["RequestId"]

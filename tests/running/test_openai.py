"""What OpenAI's client gets."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import openai as openai_package
import pytest
from openai import OpenAI

from tests.fixtures.pictures import digits
from tests.running.conftest import EMBEDDING, LLM, VISION, VLM, Hearth

USER: Any = [{"role": "user", "content": "Return the sum of a list of numbers."}]


def test_every_endpoint_is_a_model(openai: OpenAI) -> None:
    names = {model.id for model in openai.models.list()}
    assert {LLM, EMBEDDING, VISION, VLM} <= names
    assert openai.models.retrieve(LLM).id == LLM


def test_completion(openai: OpenAI) -> None:
    answer = openai.completions.create(model=LLM, prompt="def add(a, b):\n", max_tokens=24, temperature=0)
    assert answer.choices[0].text
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 24


def test_chat(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(model=LLM, messages=USER, max_tokens=16, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content


def test_streams_arrive_in_pieces_with_usage_and_say_the_same(openai: OpenAI) -> None:
    whole = openai.completions.create(model=LLM, prompt="import ", max_tokens=24, temperature=0)
    chunks = list(
        openai.completions.create(
            model=LLM, prompt="import ", max_tokens=24, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert len(chunks) > 10
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage


def test_logprobs(openai: OpenAI) -> None:
    answer = openai.chat.completions.create(
        model=LLM, messages=USER, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    for token in logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(top.logprob for top in token.top_logprobs)


def test_json_schema_output_is_that_schema(openai: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["sum", "mean"]}, "arguments": {"type": "integer", "maximum": 9, "minimum": 0}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    answer = openai.chat.completions.create(
        model=LLM, messages=USER, max_tokens=64, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "call", "schema": schema, "strict": True}},
    )  # fmt: skip
    found = json.loads(answer.choices[0].message.content or "")
    assert found["name"] in ("sum", "mean")
    assert 0 <= found["arguments"] <= 9


def test_a_named_tool_is_called(openai: OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "function": {
            "name": "pick",
            # A model this small keeps to a schema only where it is held to it, and fills the gaps with blanks
            # unless they are made dear (frequency_penalty).
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"n": {"enum": [1, 2]}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }
    answer = openai.chat.completions.create(
        model=LLM, messages=USER, max_tokens=300, temperature=0, frequency_penalty=2.0, tools=[tool],
        tool_choice={"type": "function", "function": {"name": "pick"}},
    )  # fmt: skip
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    call: Any = calls[0]
    assert call.function.name == "pick"
    assert json.loads(call.function.arguments)["n"] in (1, 2)


def test_responses(openai: OpenAI) -> None:
    answer = openai.responses.create(model=LLM, input="Return the length of a list.", max_output_tokens=16)
    assert answer.status in ("completed", "incomplete")
    assert answer.output


def test_seeds_repeat_and_differ(openai: OpenAI) -> None:
    def text(seed: int) -> str:
        answer = openai.completions.create(model=LLM, prompt="class ", max_tokens=16, temperature=1.0, seed=seed)
        return answer.choices[0].text

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(5)}) > 1


def test_embeddings_place_like_by_like(openai: OpenAI) -> None:
    texts = ["a cat sat on the mat", "a kitten rested on the rug", "interest rates rose again"]
    answer = openai.embeddings.create(model=EMBEDDING, input=texts, encoding_format="float")
    vectors = np.array([row.embedding for row in answer.data])
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-2)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2


def test_scores_and_reranking(hearth: Hearth) -> None:
    body = {"model": EMBEDDING, "query": "feline", "documents": ["interest rates", "a cat on a mat", "tax law"]}
    ranked = hearth.http.post("/v1/rerank", json=body).raise_for_status().json()["results"]
    assert ranked[0]["index"] == 1
    pair = {"model": EMBEDDING, "text_1": "feline", "text_2": ["a cat", "a tax"]}
    scores = [row["score"] for row in hearth.http.post("/v1/score", json=pair).raise_for_status().json()["data"]]
    assert scores[0] > scores[1]


def test_tokenize(hearth: Hearth) -> None:
    body = {"model": LLM, "prompt": "def add(a, b): return a + b"}
    tokens = hearth.http.post("/v1/tokenize", json=body).raise_for_status().json()["tokens"]
    back = hearth.http.post("/v1/detokenize", json={"model": LLM, "tokens": tokens}).raise_for_status().json()
    assert body["prompt"] in back["prompt"]


def test_an_endpoint_has_a_base_url_of_its_own(hearth: Hearth) -> None:
    client = OpenAI(base_url=f"{hearth.url}/endpoints/{LLM}/openai/v1", api_key="any", max_retries=0)
    answer = client.chat.completions.create(model=LLM, messages=USER, max_tokens=4)
    assert answer.model == LLM


def test_an_image_part_changes_what_a_vision_language_model_says(openai: OpenAI) -> None:
    def ask(image: str | None) -> tuple[int, list[float]]:
        content: Any = [{"type": "text", "text": "What is this?"}]
        if image:
            content.append({"type": "image_url", "image_url": {"url": image}})
        answer = openai.chat.completions.create(
            model=VLM, messages=[{"role": "user", "content": content}], max_tokens=4, temperature=0, logprobs=True
        )
        assert answer.usage is not None
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        return answer.usage.prompt_tokens, [token.logprob for token in logprobs.content]

    three, eight = (data_url(png) for png, label in digits(10) if label in "38")
    assert ask(three)[0] > ask(None)[0]
    assert ask(three) == ask(three)
    assert ask(three)[1] != ask(eight)[1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.png", "https://example.com/x.png", "file:///etc/passwd"])
def test_images_are_never_fetched(openai: OpenAI, url: str) -> None:
    content: Any = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(openai_package.BadRequestError, match="data:"):
        openai.chat.completions.create(model=VLM, messages=[{"role": "user", "content": content}], max_tokens=1)


def test_long_bodies_take_the_way_through_the_door(openai: OpenAI) -> None:
    """A body longer than the edge looks into is routed by the door, to the same replica and answer."""
    texts = ["x" * 3000] * 30  # one unknown word each: long to send, short to embed
    body = {"input": texts, "model": EMBEDDING}
    assert json.dumps(body).index(EMBEDDING) > 64 * 1024
    answer = openai.embeddings.create(**body)  # type: ignore[arg-type]
    assert len(answer.data) == 30


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "nobody"}, openai_package.NotFoundError),
        ({"model": LLM, "n": 10**6}, openai_package.BadRequestError),
        ({"model": LLM, "logprobs": 10**6}, openai_package.BadRequestError),
        ({"model": LLM, "prompt": "x " * 20_000}, openai_package.BadRequestError),
        ({"model": LLM, "max_tokens": -1}, openai_package.BadRequestError),
        ({"model": LLM, "temperature": -3.0}, openai_package.BadRequestError),
        ({"model": LLM, "extra_body": {"structured_outputs": {"choice": ["x" * 100] * 10_000}}},
         openai_package.BadRequestError),
        ({"model": LLM, "extra_body": {"structured_outputs": {"json": {"$ref": "#"}}}}, openai_package.BadRequestError),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_openais_words(openai: OpenAI, body: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        openai.completions.create(**{"prompt": "x", "max_tokens": 2, **body})
    assert openai.completions.create(model=LLM, prompt="x", max_tokens=1).choices


@pytest.mark.parametrize("path", ["/load", "/scale_elastic_ep", "/version", "/v1/load_lora_adapter", "/server_info"])
def test_what_vllm_mounts_beside_is_not_reachable(hearth: Hearth, path: str) -> None:
    for where in (path, f"/endpoints/{LLM}{path}", f"/endpoints/{LLM}/openai{path}", f"/v1{path}"):
        for method in ("GET", "POST"):
            body = {"json": {"model": LLM}} if method == "POST" else {}
            reply = hearth.http.request(method, where, **body)  # type: ignore[arg-type]
            assert reply.status_code in (400, 404, 405), (method, where, reply.text)


def test_a_client_that_leaves_frees_its_slot(hearth: Hearth) -> None:
    body = {"model": LLM, "prompt": "import os\n", "max_tokens": 900, "ignore_eos": True, "stream": True}
    before = _of_engine(hearth.http, "vllm:generation_tokens_total")
    with hearth.http.stream("POST", "/v1/completions", json=body) as reply:
        assert reply.status_code == 200, reply.read()
        lines = reply.iter_lines()  # kept: httpx closes the connection with its iterator
        next(lines)
        hearth.wait("the request is counted", lambda: hearth.replicas(LLM)[0]["in_flight"] == 1)
    hearth.wait("the slot is free", lambda: hearth.replicas(LLM)[0]["in_flight"] == 0)
    hearth.wait("the engine is idle", lambda: _of_engine(hearth.http, "vllm:num_requests_running") == 0)
    assert _of_engine(hearth.http, "vllm:generation_tokens_total") < before + 900, "it went on to the end"


def _of_engine(http: httpx.Client, name: str) -> float:
    """What vLLM itself says of the language model."""
    lines = http.get("/metrics").text.splitlines()
    rows = [row for row in lines if row.startswith(f"{name}{{") and LLM in row]
    if not rows:
        raise ValueError(f"no {name} yet")
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


def data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()

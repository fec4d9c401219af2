"""What one request may ask of a replica: more is refused before the engine sees it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from server.spec import Limits
from tests.fixtures.fake_engines import OpenAIApp, text_engines
from tests.fixtures.served import guarded

CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
DEEP: Any = "x"
for _ in range(60):
    DEEP = {"anyOf": [DEEP]} if isinstance(DEEP, str) else {"items": DEEP}

UNBOUNDED: dict[str, dict[str, Any]] = {
    "n": {"n": 10**9},
    "n as text": {"n": "9" * 400},
    "n as a list": {"n": [1]},
    "n of a batch": {"prompt": ["a"] * 100, "n": 16},
    "best_of": {"best_of": 1000},
    "logprobs": {"logprobs": True, "top_logprobs": 10**6},
    "all logprobs": {"logprobs": -1},
    "prompt logprobs": {"prompt_logprobs": 10**6},
    "logprobs of ids": {"logprob_token_ids": list(range(1000))},
    "stops": {"stop": ["a"] * 17},
    "a long stop": {"stop": "a" * 257},
    "stop ids": {"stop_token_ids": list(range(300))},
    "bad words": {"bad_words": ["a"] * 300},
    "bias": {"logit_bias": {str(n): 1 for n in range(2000)}},
    "allowed ids": {"allowed_token_ids": [1] * 70_000},
    "batch": {"input": ["a"] * 257},
    "documents": {"query": "a", "documents": ["a"] * 257},
    "messages": {"messages": [{"role": "user", "content": "a"}] * 4097},
    "beam search": {"use_beam_search": True},
    "infinite temperature": {"temperature": 10**400},
    "a large schema": {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["a" * 70_000]}}}},
    "a schema in itself": {"structured_outputs": {"json": {"$ref": "#"}}},
    "a schema by turns": {"tools": [{"function": {"parameters": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {
        "allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}}}]},
    "a schema elsewhere": {"response_format": {"json_schema": {"schema": {"$ref": "http://169.254.169.254/"}}}},
    "a long pattern": {"structured_outputs": {"regex": "(a|aa)+" * 10_000}},
    "a long grammar": {"structured_outputs": {"grammar": "root ::= " + '"a" | ' * 20_000}},
    "many choices": {"structured_outputs": {"choice": ["a" * 20] * 5000}},
    "a pattern by the old name": {"guided_regex": "(a+)+$"},
    "a template": {"chat_template": "{% for a in range(10**9) %}{{ a }}{% endfor %}"},
    "a template among arguments": {"chat_template_kwargs": {"chat_template": "{{ cycler.__init__.__globals__ }}"}},
    "large arguments": {"chat_template_kwargs": {"a": "x" * 70_000}},
    "tensors": {"prompt_embeds": "AAAA"},
    "processors": {"mm_processor_kwargs": {"code_revision": "evil"}},
    "readers": {"media_io_kwargs": {"video": {"max_frames": 10**9}}},
    "connections": {"kv_transfer_params": {"remote_host": "169.254.169.254"}},
    "extras": {"vllm_xargs": {"a": 1}},
    "another's request": {"request_id": "chatcmpl-1"},
    "before others": {"priority": -(10**6)},
    "a life of its own": {"background": True},
}  # fmt: skip


@pytest.mark.parametrize("more", UNBOUNDED.values(), ids=UNBOUNDED.keys())
async def test_more_than_there_may_be(more: dict[str, Any]) -> None:
    app = OpenAIApp()
    transport = httpx.ASGITransport(guarded(text_engines(openai=app)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        for path in ("/v1/chat/completions", "/v1/completions", "/endpoints/m/openai/v1/chat/completions"):
            answer = await client.post(path, json={**CHAT, **more})
            assert answer.status_code in (400, 413), answer.text[:200]
            assert len(answer.content) < 4096
        answer = await client.post("/endpoints/m/invocations", json={**CHAT, **more})
        assert answer.status_code == 424, "a refusal of the container's"
    assert app.bodies == []


@pytest.mark.parametrize(
    "parameters",
    [{"max_new_tokens": 10**9}, {"stop": ["a"] * 100}, {"top_n_tokens": 10**6}, {"best_of": 10**6}, {"n": 10**6},
     {"truncate": -(10**9)}, {"temperature": "NaN"}, {"num_return_sequences": 10**6}, {"seed": 10**30}],
)  # fmt: skip
async def test_parameters_of_the_container_contract(parameters: dict[str, Any]) -> None:
    transport = httpx.ASGITransport(guarded(text_engines()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        answer = await client.post("/invocations", json={"inputs": "a b", "parameters": parameters})
        assert answer.status_code in (200, 400, 422)
        assert len(answer.content) < 100_000


@pytest.mark.parametrize(
    "path",
    ["/load", "/scale_elastic_ep", "/is_scaling_elastic_ep", "/start_profile", "/v1/load_lora_adapter",
     "/reset_prefix_cache",
     "/sleep", "/wake_up", "/collective_rpc", "/inference/v1/generate", "/tokenize", "/detokenize", "/pooling",
     "/server_info",
     "/v1/realtime", "/v1/audio/transcriptions", "/v1/files", "/render", "/pause", "/update_weights", "/docs",
     "/openapi.json",
     "/v1/chat/completions/../../load", "/v1//load", "/v1/%2e%2e/load", "/v1/responses/x/cancel",
     "/v1/chat/completions/render"],
)  # fmt: skip
async def test_routes_of_the_engine_that_are_not_offered(path: str) -> None:
    app = OpenAIApp()
    transport = httpx.ASGITransport(guarded(text_engines(openai=app), Limits()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        for method in ("GET", "POST", "PUT", "DELETE"):
            for prefix in ("", "/endpoints/m/openai"):
                answer = await client.request(method, prefix + path, json={"model": "m"})
                assert answer.status_code in (404, 405, 400, 415), (method, path)
    assert app.bodies == []

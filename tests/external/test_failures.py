"""Providers that fail: tried again, passed over, told, and never after an answer has begun."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from prometheus_client import REGISTRY

from server.external import chain, wire
from server.external.wire import ProviderFailed
from tests.external.conftest import Make, Serve, anthropic_at, bedrock_at, openai_at
from tests.external.providers import KEY, Provider
from tests.fixtures.served import Served

SAY: Any = [{"role": "user", "content": "one two three"}]
DOWN = {"provider": "openai", "model": "gone", "url": "http://127.0.0.1:9/v1"}
"""The discard port: nobody listens there."""


def say(served: Served, **more: Any) -> Any:
    return served.openai().chat.completions.create(model="m", messages=SAY, **more)


def counted(name: str, **labels: str) -> float:
    named = {"EndpointName": "m", "VariantName": "AllTraffic", **labels}
    return REGISTRY.get_sample_value(name, named) or 0.0


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_what_passes_is_tried_again(serve: Serve, provider: Provider, status: int) -> None:
    provider.fail(status)
    provider.fail(status)
    assert say(serve(openai_at(provider))).choices[0].message.content == "one two three"
    assert len(provider.asked) == 3


def test_the_next_provider_answers_where_one_does_not(serve: Serve, providers: list[Provider]) -> None:
    first, second = providers
    before = counted("hearth_external_fallbacks_total", provider="openai", model="gpt-x")
    for _ in range(3):
        first.fail(503)
    served = serve(anthropic_at(first), openai_at(second))
    assert say(served).choices[0].message.content == "one two three"
    assert (len(first.asked), len(second.asked)) == (3, 1)
    first.fail(401)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in say(served, stream=True)) == "one two three"
    assert (len(first.asked), len(second.asked)) == (4, 2)
    assert counted("hearth_external_fallbacks_total", provider="openai", model="gpt-x") == before + 2


def test_a_provider_that_is_not_there_is_passed_over(serve: Serve, provider: Provider) -> None:
    served = serve(DOWN, openai_at(provider), allowed=f"127.0.0.1:9,{provider.host}")
    assert say(served).choices[0].message.content == "one two three"


def test_what_is_the_callers_fault_is_told_at_once(serve: Serve, providers: list[Provider]) -> None:
    first, second = providers
    first.fail(400, {"error": {"message": "max_tokens is too large"}})
    served = serve(openai_at(first), openai_at(second))
    with pytest.raises(openai.BadRequestError, match="max_tokens is too large"):
        say(served)
    assert (len(first.asked), second.asked) == (1, [])


@pytest.mark.parametrize(
    ("status", "raised"),
    [(429, openai.RateLimitError), (503, openai.InternalServerError), (401, openai.InternalServerError)],
)
def test_who_asks_is_told_what_the_last_provider_said(
    serve: Serve, provider: Provider, status: int, raised: type[openai.APIStatusError]
) -> None:
    for _ in range(3):
        provider.fail(status, {"error": {"message": f"no, {KEY}" if status == 401 else "not now"}})
    with pytest.raises(raised) as caught:
        say(serve(openai_at(provider)))
    assert KEY not in str(caught.value)
    assert len(provider.asked) == (1 if status == 401 else 3)


def test_redirects_are_not_followed(serve: Serve, providers: list[Provider]) -> None:
    first, second = providers
    for _ in range(3):
        first.fail(307, location=f"{second.url}/v1/chat/completions")
    with pytest.raises(openai.InternalServerError, match="redirects"):
        say(serve(openai_at(first)))
    assert second.asked == []


@pytest.mark.parametrize("at", [openai_at, anthropic_at, bedrock_at], ids=["openai", "anthropic", "bedrock"])
def test_nothing_is_tried_again_once_an_answer_has_begun(
    serve: Serve, providers: list[Provider], at: Callable[[Provider], dict[str, Any]]
) -> None:
    first, second = providers
    first.break_off = True
    served = serve(at(first), openai_at(second))
    with pytest.raises(openai.APIError, match="failed while answering"):
        list(say(served, stream=True))
    assert (len(first.asked), second.asked) == (1, [])


def test_a_stream_that_breaks_is_told_to_sagemakers_client(serve: Serve, provider: Provider) -> None:
    provider.break_off = True
    body = json.dumps({"inputs": "one two three", "stream": True})
    stream = serve(openai_at(provider)).boto3().invoke_endpoint_with_response_stream(EndpointName="m", Body=body)
    with pytest.raises(Exception, match="ModelStreamError"):
        list(stream["Body"])
    stream["Body"].close()


def test_parts_go_out_as_they_come(serve: Serve, provider: Provider) -> None:
    provider.pause.clear()
    stream = say(serve(openai_at(provider)), stream=True)
    seen = [next(stream), next(stream)]
    assert seen[1].choices[0].delta.content == "one "
    provider.pause.set()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "two three"


def test_a_client_that_leaves_ends_the_providers_answer(make: Make, provider: Provider) -> None:
    provider.pause.clear()
    model = make(openai_at(provider))

    async def leave() -> int:
        deltas = model.chain.chat({"messages": SAY}, stream=True)
        async for delta in deltas:
            if any(choice["delta"].get("content") for choice in delta.choices):
                break
        await deltas.aclose()
        await model.close()
        return model.chain.used

    assert asyncio.run(leave()) > 0  # about what it must have been


def test_waits_grow_and_heed_what_the_provider_asks_for() -> None:
    waits = [chain._wait_s(attempt, ProviderFailed("", 503)) for attempt in range(8)]
    for attempt, wait in enumerate(waits):
        most = min(chain.MOST_WAIT_S, chain.FIRST_WAIT_S * 2**attempt)
        assert most / 2 <= wait <= most
    assert chain._wait_s(0, ProviderFailed("", 429, retry_after=3.0)) == 3.0
    assert chain._wait_s(0, ProviderFailed("", 429, retry_after=3600.0)) == chain.MOST_WAIT_S


def test_an_answer_has_a_bounded_length(monkeypatch: pytest.MonkeyPatch, serve: Serve, provider: Provider) -> None:
    monkeypatch.setattr(wire, "MOST_ANSWER_BYTES", 64)
    with pytest.raises(openai.InternalServerError, match="too long"):
        say(serve(openai_at(provider), retries=0))


def test_a_provider_that_says_nothing_is_given_up(serve: Serve) -> None:
    told = {"provider": "openai", "model": "slow", "outcome": "connection"}
    before = counted("hearth_external_requests_total", **told)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        slow = {"provider": "openai", "model": "slow", "url": f"http://{host}/v1"}
        with pytest.raises(openai.InternalServerError, match="in time"):
            say(serve(slow, retries=1, read_timeout_s=0.1, allowed=host))
    assert counted("hearth_external_requests_total", **told) == before + 2


def test_errors_of_the_transport_do_not_leak(make: Make) -> None:
    model = make(DOWN, allowed="127.0.0.1:9", retries=0)

    async def ask() -> None:
        try:
            await anext(model.chain.chat({"messages": SAY}, stream=False))
        finally:
            await model.close()

    with pytest.raises(Exception, match="No provider answered") as caught:
        asyncio.run(ask())
    assert not isinstance(caught.value, httpx.HTTPError)

"""Servers that speak OpenAI's API: bodies go through as they are, under the provider's name of the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from server.external import wire
from server.external.chat import Body, Delta, Usage
from server.external.options import ProviderOptions
from server.external.provider import Embedded
from server.external.secrets import Secrets
from server.external.wire import ProviderFailed

DONE = "[DONE]"


class OpenAIProvider:
    def __init__(self, options: ProviderOptions, client: httpx.AsyncClient, secrets: Secrets) -> None:
        self.options = options
        self._client = client
        self._secrets = secrets

    async def chat(self, body: Body, *, stream: bool) -> AsyncGenerator[Delta, None]:
        sent = {**body, "model": self.options.model, "stream": stream}
        if stream:
            sent["stream_options"] = {"include_usage": True}
        else:
            sent.pop("stream_options", None)
        async with self._asked("/chat/completions", sent) as response:
            if not stream:
                yield _whole(await wire.document(response))
                return
            async for data in wire.events(response):
                if data == DONE:
                    return
                yield _delta(wire.parsed(data))
        raise ProviderFailed("the provider broke its answer off")

    async def embed(self, texts: Sequence[str], dimensions: int | None) -> Embedded:
        sent: dict[str, Any] = {"model": self.options.model, "input": list(texts), "encoding_format": "float"}
        if dimensions is not None:
            sent["dimensions"] = dimensions
        async with self._asked("/embeddings", sent) as response:
            found = await wire.document(response)
        try:
            rows = sorted(found["data"], key=lambda row: row["index"])
            vectors = [[float(value) for value in row["embedding"]] for row in rows]
        except (KeyError, TypeError, ValueError):
            raise ProviderFailed("the provider's answer holds no vectors", 502) from None
        if len(vectors) != len(texts):
            raise ProviderFailed(f"the provider answered {len(vectors)} vectors for {len(texts)} texts", 502)
        return Embedded(vectors, _usage(found) or Usage())

    @asynccontextmanager
    async def _asked(self, path: str, sent: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        headers = {"content-type": "application/json"}
        if self.options.secret is not None:
            key = await asyncio.to_thread(self._secrets.value, self.options.secret)
            headers["authorization"] = f"Bearer {key}"
        content = json.dumps(sent, ensure_ascii=False).encode(errors="replace")
        async with wire.asked(self._client, self.options.address + path, headers, content) as response:
            yield response


def _whole(found: Mapping[str, Any]) -> Delta:
    try:
        choices = tuple(
            {"index": each["index"], "delta": each["message"], "logprobs": each.get("logprobs"),
             "finish_reason": each["finish_reason"]}
            for each in found["choices"]
        )  # fmt: skip
    except (KeyError, TypeError):
        raise ProviderFailed("the provider's answer holds no choices", 502) from None
    return Delta(choices, _usage(found))


def _delta(chunk: Mapping[str, Any]) -> Delta:
    if "error" in chunk:
        raise ProviderFailed(wire.said(json.dumps(chunk).encode()) or "the provider failed while answering", 502)
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not all(
        isinstance(each, dict) and isinstance(each.get("index"), int) and isinstance(each.get("delta"), dict)
        for each in choices
    ):
        raise ProviderFailed("an event of the provider's holds no choices", 502)
    return Delta(tuple(choices), _usage(chunk))


def _usage(found: Mapping[str, Any]) -> Usage | None:
    usage = found.get("usage")
    if not isinstance(usage, dict):
        return None
    return Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))

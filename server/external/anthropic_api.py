"""Anthropic's Messages API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import httpx

from server.errors import BadRequest
from server.external import wire
from server.external.chat import (
    Body,
    Conversation,
    Delta,
    Image,
    Part,
    Text,
    ToolCall,
    Usage,
    choice,
    conversation,
    tool_call,
)
from server.external.options import ProviderOptions
from server.external.provider import Embedded
from server.external.secrets import Secrets
from server.external.wire import ProviderFailed

VERSION = "2023-06-01"
"""Of the API, in its own header."""
FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip
_ERRORS = {"overloaded_error": 529, "rate_limit_error": 429, "invalid_request_error": 400}
"""Status of an error that comes as an event."""


class AnthropicProvider:
    def __init__(
        self, options: ProviderOptions, client: httpx.AsyncClient, secrets: Secrets, default_tokens: int
    ) -> None:
        self.options = options
        self._client = client
        self._secrets = secrets
        self._default_tokens = default_tokens

    async def chat(self, body: Body, *, stream: bool) -> AsyncGenerator[Delta, None]:
        said = conversation(body, self._default_tokens, "Anthropic")
        sent = {**request(said), "model": self.options.model, "stream": stream}
        headers = {"content-type": "application/json", "anthropic-version": VERSION}
        if self.options.secret is not None:
            headers["x-api-key"] = await asyncio.to_thread(self._secrets.value, self.options.secret)
        content = json.dumps(sent, ensure_ascii=False).encode(errors="replace")
        async with wire.asked(self._client, f"{self.options.address}/v1/messages", headers, content) as response:
            if not stream:
                yield _whole(await wire.document(response))
                return
            reading = _Reading()
            async for data in wire.events(response):
                if (delta := reading.take(wire.parsed(data))) is not None:
                    yield delta
                if reading.ended:
                    return
        raise ProviderFailed("the provider broke its answer off")

    async def embed(self, texts: Sequence[str], dimensions: int | None) -> Embedded:
        raise BadRequest("Anthropic has no embeddings")


def request(said: Conversation) -> dict[str, Any]:
    """A conversation as the API takes it, without model and stream. Raises BadRequest."""
    if said.temperature is not None and not 0 <= said.temperature <= 1:
        raise BadRequest("temperature is from 0 to 1 with Anthropic", field="temperature")
    sent: dict[str, Any] = {
        "max_tokens": said.max_tokens,
        "messages": [{"role": turn.role, "content": [_block(part) for part in turn.parts]} for turn in said.turns],
    }
    given = {
        "system": said.system or None, "temperature": said.temperature, "top_p": said.top_p, "top_k": said.top_k,
        "stop_sequences": list(said.stop) or None,
    }  # fmt: skip
    sent |= {name: value for name, value in given.items() if value is not None}
    if said.tools:
        sent["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in said.tools
        ]
    if said.tool_choice is not None:
        named = {"auto": "auto", "none": "none", "required": "any"}.get(said.tool_choice)
        sent["tool_choice"] = {"type": named} if named else {"type": "tool", "name": said.tool_choice[1:]}
    return sent


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        source = {"type": "base64", "media_type": f"image/{part.format}", "data": part.data}
        return {"type": "image", "source": source}
    if isinstance(part, ToolCall):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
    return {"type": "tool_result", "tool_use_id": part.id, "content": part.text}


def _whole(found: Mapping[str, Any]) -> Delta:
    try:
        text = "".join(block["text"] for block in found["content"] if block["type"] == "text")
        calls = [block for block in found["content"] if block["type"] == "tool_use"]
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if calls:
            message["tool_calls"] = [tool_call(call["id"], call["name"], call["input"]) for call in calls]
        return Delta((choice(message, FINISH.get(found["stop_reason"], "stop")),), _usage(found["usage"]))
    except (KeyError, TypeError):
        raise ProviderFailed("the provider's answer is no message", 502) from None


def _usage(usage: Mapping[str, Any]) -> Usage:
    read = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return Usage(sum(int(usage.get(name) or 0) for name in read), int(usage.get("output_tokens") or 0))


class _Reading:
    """The events of one streamed message."""

    def __init__(self) -> None:
        self.ended = False
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        """Places of tool calls by their content blocks."""

    def take(self, event: Mapping[str, Any]) -> Delta | None:
        """What an event adds; None: nothing. Raises ProviderFailed."""
        try:
            return self._take(event)
        except (KeyError, TypeError):
            raise ProviderFailed("an event of the provider's cannot be read", 502) from None

    def _take(self, event: Mapping[str, Any]) -> Delta | None:
        kind = event["type"]
        if kind == "error":
            error = event["error"]
            raise ProviderFailed(str(error.get("message", ""))[:1000], _ERRORS.get(error.get("type"), 500))
        if kind == "message_start":
            self._usage = dict(event["message"]["usage"])
            return Delta((choice({"role": "assistant", "content": ""}),), _usage(self._usage))
        if kind == "content_block_start" and event["content_block"]["type"] == "tool_use":
            return self._call(event["index"], event["content_block"])
        if kind == "content_block_delta":
            return self._gain(event["index"], event["delta"])
        if kind == "message_delta":
            self._usage |= {name: value for name, value in event.get("usage", {}).items() if value is not None}
            finish = FINISH.get(event["delta"].get("stop_reason"), "stop")
            return Delta((choice({}, finish),), _usage(self._usage))
        self.ended = kind == "message_stop"
        return None

    def _call(self, block: int, call: Mapping[str, Any]) -> Delta:
        place = self._calls[block] = len(self._calls)
        function = {"name": call["name"], "arguments": ""}
        said = {"index": place, "id": call["id"], "type": "function", "function": function}
        return Delta((choice({"tool_calls": [said]}),))

    def _gain(self, block: int, delta: Mapping[str, Any]) -> Delta | None:
        if delta["type"] == "text_delta":
            return Delta((choice({"content": delta["text"]}),))
        if delta["type"] == "input_json_delta":
            said = {"index": self._calls[block], "function": {"arguments": delta["partial_json"]}}
            return Delta((choice({"tool_calls": [said]}),))
        return None

"""Amazon Bedrock: chats by Converse, Titan's texts also by InvokeModel, as are embeddings of Titan and Cohere."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import httpx
from botocore.exceptions import ParamValidationError

from server.errors import BadRequest
from server.external import bedrock_wire, wire
from server.external.bedrock_wire import BedrockWire, Signer
from server.external.chat import (
    Body,
    Conversation,
    Delta,
    Image,
    Part,
    Text,
    ToolCall,
    Turn,
    Usage,
    choice,
    conversation,
    tool_call,
)
from server.external.options import ProviderOptions
from server.external.provider import Embedded
from server.external.wire import ProviderFailed

FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "guardrail_intervened": "content_filter", "content_filtered": "content_filter",
}  # fmt: skip
TITAN_FINISH = {"LENGTH": "length", "CONTENT_FILTERED": "content_filter"}
INPUT_TOKENS = "x-amzn-bedrock-input-token-count"
MOST_AT_ONCE = 8
"""Texts of one request that Titan, which takes one at a time, is asked for together."""


class BedrockProvider:
    def __init__(
        self, options: ProviderOptions, client: httpx.AsyncClient, signer: Signer, default_tokens: int
    ) -> None:
        self.options = options
        self._wire = BedrockWire(options, client, signer)
        self._default_tokens = default_tokens

    async def chat(self, body: Body, *, stream: bool) -> AsyncGenerator[Delta, None]:
        said = conversation(body, self._default_tokens, "Bedrock")
        if said.top_k is not None:
            raise BadRequest("top_k is not supported with Bedrock", field="top_k")
        asking = self._titan(said, stream) if self.options.api == "invoke" else self._converse(said, stream)
        try:
            async for delta in asking:
                yield delta
        except ParamValidationError as error:
            raise BadRequest(f"Bedrock does not take this: {error}") from None
        finally:
            await asking.aclose()

    async def embed(self, texts: Sequence[str], dimensions: int | None) -> Embedded:
        if "cohere." in self.options.model:
            if dimensions is not None:
                raise BadRequest("dimensions cannot be chosen with this model", field="dimensions")
            found, read = await self._invoke({"texts": list(texts), "input_type": "search_document"})
            return Embedded(_vectors(found, len(texts)), Usage(read))
        gate = asyncio.Semaphore(MOST_AT_ONCE)
        asked = [asyncio.ensure_future(self._titan_vector(text, dimensions, gate)) for text in texts]
        try:
            found_all = await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()
        return Embedded([vector for vector, _ in found_all], Usage(sum(read for _, read in found_all)))

    async def _titan_vector(
        self, text: str, dimensions: int | None, gate: asyncio.Semaphore
    ) -> tuple[list[float], int]:
        sent: dict[str, Any] = {"inputText": text}
        if dimensions is not None:
            sent["dimensions"] = dimensions
        async with gate:
            found, read = await self._invoke(sent)
        try:
            return [float(value) for value in found["embedding"]], int(found.get("inputTextTokenCount", read))
        except (KeyError, TypeError, ValueError):
            raise ProviderFailed("the provider's answer holds no vector", 502) from None

    async def _invoke(self, sent: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """InvokeModel's answer, and the tokens that its headers say were read."""
        params = {"modelId": self.options.model, "body": json.dumps(sent), "contentType": "application/json"}
        async with self._wire.asked("InvokeModel", params) as response:
            return await wire.document(response), int(response.headers.get(INPUT_TOKENS, 0))

    async def _converse(self, said: Conversation, stream: bool) -> AsyncGenerator[Delta, None]:
        params = {"modelId": self.options.model, **request(said)}
        operation = "ConverseStream" if stream else "Converse"
        async with self._wire.asked(operation, params) as response:
            if not stream:
                yield _whole(await self._wire.result(operation, response))
                return
            reading = _Reading()
            async for kind, event in bedrock_wire.events(response):
                if (delta := reading.take(kind, event)) is not None:
                    yield delta
            if not reading.finished:
                raise ProviderFailed("the provider broke its answer off")

    async def _titan(self, said: Conversation, stream: bool) -> AsyncGenerator[Delta, None]:
        params = {"modelId": self.options.model, "body": json.dumps(titan(said)), "contentType": "application/json"}
        if not stream:
            async with self._wire.asked("InvokeModel", params) as response:
                yield _titan_whole(await wire.document(response))
            return
        finished = False
        async with self._wire.asked("InvokeModelWithResponseStream", params) as response:
            async for _, event in bedrock_wire.events(response):
                chunk = wire.parsed(base64.b64decode(event.get("bytes", "")))
                finished = finished or chunk.get("completionReason") is not None
                yield _titan_delta(chunk)
        if not finished:
            raise ProviderFailed("the provider broke its answer off")


def request(said: Conversation) -> dict[str, Any]:
    """A conversation as Converse takes it, without the model."""
    inference = {
        "maxTokens": said.max_tokens, "temperature": said.temperature, "topP": said.top_p,
        "stopSequences": list(said.stop) or None,
    }  # fmt: skip
    sent: dict[str, Any] = {
        "messages": [{"role": turn.role, "content": [_block(part) for part in turn.parts]} for turn in said.turns],
        "inferenceConfig": {name: value for name, value in inference.items() if value is not None},
    }
    if said.system:
        sent["system"] = [{"text": said.system}]
    if said.tools and said.tool_choice != "none":
        tools = [
            {"toolSpec": {"name": tool.name, "inputSchema": {"json": tool.schema},
                          **({"description": tool.description} if tool.description else {})}}
            for tool in said.tools
        ]  # fmt: skip
        sent["toolConfig"] = {"tools": tools}
        if said.tool_choice is not None:
            by_word: dict[str, dict[str, Any]] = {"auto": {"auto": {}}, "required": {"any": {}}}
            sent["toolConfig"]["toolChoice"] = by_word.get(said.tool_choice, {"tool": {"name": said.tool_choice[1:]}})
    return sent


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Image):
        return {"image": {"format": part.format, "source": {"bytes": base64.b64decode(part.data)}}}
    if isinstance(part, ToolCall):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}}
    return {"toolResult": {"toolUseId": part.id, "content": [{"text": part.text}]}}


def titan(said: Conversation) -> dict[str, Any]:
    """A conversation as Titan's text models take it: one text. Raises BadRequest."""
    if said.tools:
        raise BadRequest("Titan's text models have no tools", field="tools")
    single = len(said.turns) == 1 and not said.system
    prompt = _plain(said.turns[0]) if single else _dialogue(said)
    wanted = {
        "maxTokenCount": said.max_tokens, "temperature": said.temperature, "topP": said.top_p,
        "stopSequences": list(said.stop) or None,
    }  # fmt: skip
    return {
        "inputText": prompt,
        "textGenerationConfig": {name: value for name, value in wanted.items() if value is not None},
    }


def _dialogue(said: Conversation) -> str:
    head = [said.system] if said.system else []
    turns = [f"{'User' if turn.role == 'user' else 'Bot'}: {_plain(turn)}" for turn in said.turns]
    return "\n".join([*head, *turns, "Bot:"])


def _plain(turn: Turn) -> str:
    if not all(isinstance(part, Text) for part in turn.parts):
        raise BadRequest("Titan's text models take text alone", field="messages")
    return "".join(part.text for part in turn.parts if isinstance(part, Text))


def _titan_whole(found: Mapping[str, Any]) -> Delta:
    try:
        (result,) = found["results"]
        finish = TITAN_FINISH.get(result["completionReason"], "stop")
        usage = Usage(int(found["inputTextTokenCount"]), int(result["tokenCount"]))
        return Delta((choice({"role": "assistant", "content": result["outputText"]}, finish),), usage)
    except (KeyError, TypeError, ValueError):
        raise ProviderFailed("the provider's answer holds no text", 502) from None


def _titan_delta(chunk: Mapping[str, Any]) -> Delta:
    reason = chunk.get("completionReason")
    finish = None if reason is None else TITAN_FINISH.get(reason, "stop")
    metrics = chunk.get("amazon-bedrock-invocationMetrics")
    usage = None
    if isinstance(metrics, dict):
        usage = Usage(int(metrics.get("inputTokenCount", 0)), int(metrics.get("outputTokenCount", 0)))
    elif finish is not None:
        usage = Usage(int(chunk.get("inputTextTokenCount") or 0), int(chunk.get("totalOutputTextTokenCount") or 0))
    return Delta((choice({"content": str(chunk.get("outputText", ""))}, finish),), usage)


def _vectors(found: Mapping[str, Any], count: int) -> list[list[float]]:
    try:
        rows = found["embeddings"]
        vectors = [[float(value) for value in row] for row in (rows["float"] if isinstance(rows, dict) else rows)]
    except (KeyError, TypeError, ValueError):
        raise ProviderFailed("the provider's answer holds no vectors", 502) from None
    if len(vectors) != count:
        raise ProviderFailed(f"the provider answered {len(vectors)} vectors for {count} texts", 502)
    return vectors


def _whole(found: Mapping[str, Any]) -> Delta:
    try:
        blocks = found["output"]["message"]["content"]
        message: dict[str, Any] = {
            "role": "assistant", "content": "".join(block["text"] for block in blocks if "text" in block) or None,
        }  # fmt: skip
        calls = [block["toolUse"] for block in blocks if "toolUse" in block]
        if calls:
            message["tool_calls"] = [tool_call(call["toolUseId"], call["name"], call["input"]) for call in calls]
        return Delta((choice(message, FINISH.get(found["stopReason"], "stop")),), _usage(found["usage"]))
    except (KeyError, TypeError):
        raise ProviderFailed("the provider's answer is no message", 502) from None


def _usage(usage: Mapping[str, Any]) -> Usage:
    read = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    return Usage(sum(int(usage.get(name) or 0) for name in read), int(usage.get("outputTokens") or 0))


class _Reading:
    """The events of one streamed answer."""

    def __init__(self) -> None:
        self.finished = False
        self._calls: dict[int, int] = {}

    def take(self, kind: str, event: Mapping[str, Any]) -> Delta | None:
        try:
            return self._take(kind, event)
        except (KeyError, TypeError):
            raise ProviderFailed("an event of the provider's cannot be read", 502) from None

    def _take(self, kind: str, event: Mapping[str, Any]) -> Delta | None:
        if kind == "messageStart":
            return Delta((choice({"role": "assistant", "content": ""}),))
        if kind == "contentBlockStart" and "toolUse" in event["start"]:
            call = event["start"]["toolUse"]
            place = self._calls[event["contentBlockIndex"]] = len(self._calls)
            function = {"name": call["name"], "arguments": ""}
            said = {"index": place, "id": call["toolUseId"], "type": "function", "function": function}
            return Delta((choice({"tool_calls": [said]}),))
        if kind == "contentBlockDelta":
            delta = event["delta"]
            if "text" in delta:
                return Delta((choice({"content": delta["text"]}),))
            if "toolUse" in delta:
                arguments = {"arguments": delta["toolUse"]["input"]}
                place = self._calls[event["contentBlockIndex"]]
                return Delta((choice({"tool_calls": [{"index": place, "function": arguments}]}),))
        if kind == "messageStop":
            self.finished = True
            return Delta((choice({}, FINISH.get(event["stopReason"], "stop")),))
        if kind == "metadata":
            return Delta((), _usage(event["usage"]))
        return None

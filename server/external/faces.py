"""External models as the faces that dialects ask: text, vectors, and an application that speaks OpenAI's API."""

from __future__ import annotations

import base64
import json
import struct
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from server.dialects.engine import FinishReason, Generation, Step, Token
from server.errors import BadRequest, HearthError, NotFound
from server.external.chain import Chain
from server.external.chat import Delta, Usage, folded

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


class ExternalText:
    """`TextEngine`: a prompt is what the user says in a chat. What providers call tokens is not told by them; each part
    of the text counts as one, without an id."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def generate(self, prompt: str, parameters: Generation, request_id: str) -> AsyncIterator[Step]:
        ends: dict[int, FinishReason] = {}
        usage = Usage()
        async with aclosing(self._chain.chat(asked(prompt, parameters), stream=True)) as deltas:
            async for delta in deltas:
                usage = delta.usage or usage
                for each in delta.choices:
                    if text := each["delta"].get("content"):
                        yield Step(each["index"], text, (Token(0, text, None),))
                    if finish := each.get("finish_reason"):
                        ends[each["index"]] = "length" if finish == "length" else "stop"
        for index, reason in ends.items():
            yield Step(index, "", (), finish_reason=reason, prompt_tokens=usage.read)


def asked(prompt: str, parameters: Generation) -> dict[str, Any]:
    """A chat of `prompt`. Raises BadRequest for what no provider answers."""
    refused = {
        "decoder_input_details": parameters.prompt_logprobs, "ignore_eos": parameters.ignore_eos,
        "truncate": parameters.truncate, "top_n_tokens": parameters.logprobs,
    }  # fmt: skip
    for name, value in refused.items():
        if value:
            raise BadRequest(f"parameter {name} is not supported by an external model", field=f"parameters.{name}")
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": parameters.max_tokens,
        "temperature": parameters.temperature,
    }
    given = {
        "top_p": (parameters.top_p, 1.0), "top_k": (parameters.top_k, -1), "min_p": (parameters.min_p, 0.0),
        "stop": (list(parameters.stop), []), "seed": (parameters.seed, None), "n": (parameters.n, 1),
        "repetition_penalty": (parameters.repetition_penalty, 1.0),
        "presence_penalty": (parameters.presence_penalty, 0.0),
        "frequency_penalty": (parameters.frequency_penalty, 0.0),
    }  # fmt: skip
    return body | {name: value for name, (value, default) in given.items() if value != default}


class ExternalEmbedding:
    """`EmbeddingEngine`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def embed(self, texts: Sequence[str], request_id: str) -> list[list[float]]:
        return (await self._chain.embed(texts)).vectors


class ExternalApp:
    """ASGI application of OpenAI's routes, under the endpoint's own name of the model. Raises HearthError before an
    answer has begun."""

    def __init__(self, chain: Chain, endpoint: str, serves: str) -> None:
        self._chain = chain
        self._endpoint = endpoint
        self.routes = frozenset({CHAT if serves == "chat" else EMBEDDINGS})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in self.routes or scope["method"] != "POST":
            raise NotFound(f"{scope['method']} {scope['path'][:200]} is not a route of this model")
        body = await Request(scope, receive).json()
        answer = self._chat if scope["path"] == CHAT else self._embeddings
        response = await answer(body)
        await response(scope, receive, send)

    async def _chat(self, body: dict[str, Any]) -> Response:
        asked = {name: value for name, value in body.items() if name not in ("model", "stream", "stream_options")}
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self._endpoint}
        if not body.get("stream"):
            async with aclosing(self._chain.chat(asked, stream=False)) as deltas:
                choices, usage = folded([delta async for delta in deltas])
            return JSONResponse({**head, "object": "chat.completion", "choices": choices, "usage": _usage(usage)})
        deltas = self._chain.chat(asked, stream=True)
        first = await anext(deltas)  # what goes wrong until now is answered with a status
        told = bool((body.get("stream_options") or {}).get("include_usage"))
        events = _events(first, deltas, {**head, "object": "chat.completion.chunk"}, told)
        return _Closing(events, media_type="text/event-stream")

    async def _embeddings(self, body: dict[str, Any]) -> Response:
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(each, str) for each in texts):
            raise BadRequest("input must be a text or a list of texts", field="input")
        form = body.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise BadRequest("encoding_format must be float or base64", field="encoding_format")
        found = await self._chain.embed(texts, body.get("dimensions"))
        rows = [
            {"object": "embedding", "index": index, "embedding": vector if form == "float" else _base64(vector)}
            for index, vector in enumerate(found.vectors)
        ]
        usage = {"prompt_tokens": found.usage.read, "total_tokens": found.usage.read}
        return JSONResponse({"object": "list", "data": rows, "model": self._endpoint, "usage": usage})


class _Closing(StreamingResponse):
    """Closes its events however it ends, so that the provider is left at once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


async def _events(
    first: Delta, deltas: AsyncGenerator[Delta, None], head: dict[str, Any], told: bool
) -> AsyncGenerator[bytes, None]:
    """Server-sent events; what breaks is the last of them. `told`: the usage is one of its own."""
    usage = first.usage
    try:
        async with aclosing(deltas):
            if first.choices:
                yield _event({**head, "choices": first.choices})
            async for delta in deltas:
                usage = delta.usage or usage
                if delta.choices:
                    yield _event({**head, "choices": delta.choices})
        if told and usage is not None:
            yield _event({**head, "choices": [], "usage": _usage(usage)})
        yield b"data: [DONE]\n\n"
    except HearthError as error:
        yield _event({"error": {"message": error.message, "type": "server_error", "param": None, "code": error.status}})


def _event(document: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def _usage(usage: Usage) -> dict[str, int]:
    total = usage.read + usage.written
    return {"prompt_tokens": usage.read, "completion_tokens": usage.written, "total_tokens": total}


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

"""A server that speaks as Anthropic, Bedrock Runtime and OpenAI do; `test_providers.py` asks it with their own clients.

What comes is checked as they check it: Bedrock's requests by botocore's service model and signature, the others by
their headers and the members that they demand.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import uvicorn
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.validate import ParamValidator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from server.dialects import eventstream
from server.external.bedrock_wire import MODEL

KEY = "sk-the-key-of-the-provider"
ACCESS, SECRET = "AKIAEXTERNAL", "the-secret-of-the-access-key"
REGION = "us-west-2"


@dataclass
class Provider:
    """`failures` are answered first, one a request; `asked` has what came: path, headers and document."""

    port: int = 0
    failures: deque[Response] = field(default_factory=deque)
    asked: list[tuple[str, Mapping[str, str], dict[str, Any]]] = field(default_factory=list)
    pause: threading.Event = field(default_factory=threading.Event)
    """Set: streams go on after their first part."""
    break_off: bool = False
    """Streams end after their first part."""

    def __post_init__(self) -> None:
        self.pause.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fail(self, status: int, body: Mapping[str, Any] | None = None, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures.append(JSONResponse(body or {"error": {"message": f"status {status}"}}, status, named))

    async def openai(self, request: Request) -> Response:
        body = await self._note(request)
        if self.failures:
            return self.failures.popleft()
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": f"Incorrect API key: {KEY[:9]}"}}, 401)
        text = _said(body["messages"])
        usage = {"prompt_tokens": 11, "completion_tokens": len(text.split()), "total_tokens": 11 + len(text.split())}
        head = {"id": "x", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        chunks = [{"role": "assistant", "content": ""}, *({"content": word} for word in _words(text)), {}]
        documents = [
            {**head, "object": "chat.completion.chunk",
             "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
            for delta in chunks
        ]  # fmt: skip
        if body.get("stream_options", {}).get("include_usage"):
            documents.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        events = [f"data: {json.dumps(document)}\n\n".encode() for document in documents]
        return self._stream([*events, b"data: [DONE]\n\n"], "text/event-stream")

    async def embeddings(self, request: Request) -> Response:
        body = await self._note(request)
        if self.failures:
            return self.failures.popleft()
        rows = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 0.5]}
            for index, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        return JSONResponse({"object": "list", "data": rows[::-1], "model": body["model"], "usage": usage})

    async def anthropic(self, request: Request) -> Response:
        body = await self._note(request)
        if self.failures:
            return self.failures.popleft()
        if request.headers.get("x-api-key") != KEY:
            return _anthropic_error(401, "authentication_error", "invalid x-api-key")
        if request.headers.get("anthropic-version") != "2023-06-01":
            return _anthropic_error(400, "invalid_request_error", "anthropic-version: header is required")
        if not isinstance(body.get("max_tokens"), int):
            return _anthropic_error(400, "invalid_request_error", "max_tokens: Field required")
        roles = [message["role"] for message in body["messages"]]
        if any(role not in ("user", "assistant") for role in roles):
            return _anthropic_error(400, "invalid_request_error", "messages: Unexpected role")
        if tools := body.get("tools"):
            block = {"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"], "input": {"city": "Bern"}}
            return self._message(body, block, "tool_use")
        block = {"type": "text", "text": _said(body["messages"])}
        return self._message(body, block, "end_turn")

    def _message(self, body: Mapping[str, Any], block: dict[str, Any], reason: str) -> Response:
        written = len(block.get("text", "a b").split())
        usage = {"input_tokens": 5, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 1}
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
        if not body.get("stream"):
            whole = {**head, "content": [block], "stop_reason": reason, "usage": {**usage, "output_tokens": written}}
            return JSONResponse(whole)
        is_text = block["type"] == "text"
        start = {**block, "text": ""} if is_text else {**block, "input": {}}
        pieces = _words(block["text"]) if is_text else ['{"city":', '"Bern"}']
        deltas = [
            {"type": "text_delta", "text": piece} if is_text else {"type": "input_json_delta", "partial_json": piece}
            for piece in pieces
        ]
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "ping"},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None},
             "usage": {"output_tokens": written}},
            {"type": "message_stop"},
        ]  # fmt: skip
        encoded = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        return self._stream(encoded, "text/event-stream")

    async def bedrock(self, request: Request) -> Response:
        body = await self._note(request)
        if self.failures:
            return self.failures.popleft()
        content = await request.body()
        if refused := _unsigned(request, content):
            return refused
        *_, model, action = request.scope["raw_path"].decode().split("/")
        name = {"converse": "Converse", "converse-stream": "ConverseStream", "invoke": "InvokeModel",
                "invoke-with-response-stream": "InvokeModelWithResponseStream"}[action]  # fmt: skip
        operation = MODEL.operation_model(name)
        if name.startswith("Converse"):
            report = ParamValidator().validate({"modelId": unquote(model), **_blobs(body)}, operation.input_shape)
            if report.has_errors():
                return JSONResponse({"message": report.generate_report()}, 400)
            return self._converse(body, stream=name.endswith("Stream"))
        return self._invoke(body, stream=name.endswith("Stream"))

    def _converse(self, body: Mapping[str, Any], *, stream: bool) -> Response:
        text = "".join(part.get("text", "") for part in body["messages"][-1]["content"])
        usage = {"inputTokens": 13, "outputTokens": len(text.split()), "totalTokens": 13 + len(text.split())}
        if not stream:
            message = {"role": "assistant", "content": [{"text": text}]}
            answer = {"output": {"message": message}, "stopReason": "max_tokens", "usage": usage}
            return JSONResponse({**answer, "metrics": {"latencyMs": 1}})
        events: list[tuple[str, dict[str, Any]]] = [
            ("messageStart", {"role": "assistant"}),
            *(("contentBlockDelta", {"delta": {"text": word}, "contentBlockIndex": 0}) for word in _words(text)),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
        ]
        return self._stream([framed(kind, event) for kind, event in events], eventstream.CONTENT_TYPE)

    def _invoke(self, body: Mapping[str, Any], *, stream: bool) -> Response:
        text = body["inputText"]
        if "textGenerationConfig" not in body:
            vector = {"embedding": [float(len(text)), 0.25], "inputTextTokenCount": len(text.split())}
            return JSONResponse({**vector, "embeddingsByType": {"float": vector["embedding"]}})
        written = len(text.split())
        if not stream:
            result = {"tokenCount": written, "outputText": text, "completionReason": "FINISH"}
            return JSONResponse({"inputTextTokenCount": 3, "results": [result]})
        words = _words(text)
        chunks = [
            {"outputText": word, "index": 0, "totalOutputTextTokenCount": written if word == words[-1] else None,
             "completionReason": "LENGTH" if word == words[-1] else None, "inputTextTokenCount": 3}
            for word in words
        ]  # fmt: skip
        encoded = [base64.b64encode(json.dumps(chunk).encode()).decode() for chunk in chunks]
        return self._stream([framed("chunk", {"bytes": each}) for each in encoded], eventstream.CONTENT_TYPE)

    def _stream(self, parts: list[bytes], media_type: str) -> Response:
        async def go() -> AsyncIterator[bytes]:
            for place, part in enumerate(parts):
                yield part
                if place == 1:
                    if self.break_off:
                        return
                    while not self.pause.is_set():
                        await _turn()

        return StreamingResponse(go(), media_type=media_type)

    async def _note(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.asked.append((request.url.path, dict(request.headers), body))
        return body


async def _turn() -> None:
    import asyncio

    await asyncio.sleep(0.005)


def framed(kind: str, event: Mapping[str, Any]) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return eventstream.frame(eventstream.encode_headers(headers), json.dumps(event).encode())


def _words(text: str) -> list[str]:
    words = text.split()
    return [word + (" " if place < len(words) - 1 else "") for place, word in enumerate(words)]


def _said(messages: list[dict[str, Any]]) -> str:
    content = messages[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _anthropic_error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"type": "error", "error": {"type": kind, "message": message}}, status)


def _blobs(body: Any) -> Any:
    """Base64 in images as the bytes that the service model has there."""
    if isinstance(body, dict):
        return {
            name: base64.b64decode(inner) if name == "bytes" else _blobs(inner) for name, inner in body.items()
        }
    return [_blobs(inner) for inner in body] if isinstance(body, list) else body


def _unsigned(request: Request, content: bytes) -> Response | None:
    """What Bedrock answers to a request whose signature is not right; None: it is."""
    given = request.headers.get("authorization", "")
    wanted = AWSRequest("POST", f"http://{request.headers['host']}{request.scope['raw_path'].decode()}", data=content)
    for name in given.partition("SignedHeaders=")[2].partition(",")[0].split(";"):
        if name and name != "host":
            wanted.headers[name] = request.headers.get(name, "")
    signer = SigV4Auth(Credentials(ACCESS, SECRET), "bedrock", REGION)
    wanted.context["timestamp"] = request.headers.get("x-amz-date", "")
    canonical = signer.canonical_request(wanted)
    signature = signer.signature(signer.string_to_sign(wanted, canonical), wanted)
    if given.endswith(f"Signature={signature}"):
        return None
    return JSONResponse({"message": "The security token included in the request is invalid."}, 403)


@contextmanager
def providing() -> Iterator[Provider]:
    made = Provider()
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", made.openai, methods=["POST"]),
            Route("/v1/embeddings", made.embeddings, methods=["POST"]),
            Route("/v1/messages", made.anthropic, methods=["POST"]),
            Route("/model/{rest:path}", made.bedrock, methods=["POST"]),
        ]
    )
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    made.port = bound.getsockname()[1]
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.pause.set()
        server.should_exit = True
        thread.join(60)

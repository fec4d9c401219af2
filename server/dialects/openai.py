"""The OpenAI dialect: the mounted application, behind the list of routes that this model answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from server.dialects.call import Call
from server.dialects.documents import PARSED, read_body
from server.dialects.engine import Engines
from server.dialects.errors import Refusal, Refused, endpoint_not_found
from server.dialects.identity import Identity
from server.dialects.outlet import Outlet
from server.dialects.paths import OPENAI_PATHS, Route
from server.errors import ModelFailed, NotFound, Throttled, Unavailable

MODELS = "/v1/models"

MAX_REFUSAL_BYTES = 64 * 1024
"""How much of an error answer is kept."""

BY_BODY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("messages", ("/v1/chat/completions", "/v1/embeddings", "/v1/classify", "/v1/pooling")),
    ("prompt", ("/v1/completions",)),
    ("query", ("/v1/rerank",)),
    ("queries", ("/v1/score",)),
    ("text_1", ("/v1/score",)),
    ("input", ("/v1/responses", "/v1/embeddings", "/v1/classify", "/v1/pooling")),
)
"""By which key an OpenAI body is recognised on an invocation path, and which route then answers: the
first that the model has."""


class OpenAI:
    """Calls `Engines.openai`, for clients of `/v1` and for invocations with OpenAI bodies."""

    def __init__(self, engines: Engines, identity: Identity) -> None:
        self._app = engines.openai
        self._routes = engines.openai_routes & OPENAI_PATHS
        self._identity = identity
        self._created = int(time.time())

    async def serve(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        """A client of `/v1`. Raises NotFound for a route or an endpoint that is not here."""
        if route.endpoint is not None and route.endpoint != self._identity.endpoint:
            raise endpoint_not_found(route.endpoint, self._identity.account)
        path = route.path
        if self._app is not None and path in self._routes:
            if self._identity.component and scope["method"] == "POST":
                scope, receive = await self._named(scope, receive, route)
            await self._app(_at(scope, path), receive, send)
        elif scope["method"] == "GET" and (path == MODELS or path.startswith(MODELS + "/")):
            await self._models(path)(scope, receive, send)
        else:
            known = ", ".join(sorted(self._routes | {MODELS}))
            raise NotFound(f"{scope['method']} {path[:200]} is not a route of this model; it has {known}")

    async def _named(self, scope: Scope, receive: Receive, route: Route) -> tuple[Scope, Receive]:
        """The request with the component or adapter that it is for as its body's `model`."""
        document: Any = scope["state"][PARSED]  # the guard has read it
        model = Call.of(scope).model(self._identity, document.get("model"), head=route.component)
        if document.get("model") == model:
            return scope, receive
        await read_body(receive, sys.maxsize)  # bounded by the guard
        body = json.dumps({**document, "model": model}, ensure_ascii=False).encode()
        return _post(scope, route.path, len(body)), _replayed(body, receive)

    def route_for(self, document: MutableMapping[str, Any]) -> str | None:
        """The route that answers `document`; None when it is no OpenAI body that this model answers."""
        for key, paths in BY_BODY:
            if key in document:
                return next((path for path in paths if path in self._routes), None)
        return None

    def accepted_keys(self) -> list[str]:
        """Keys of OpenAI bodies that this model answers."""
        return [key for key, paths in BY_BODY if any(path in self._routes for path in paths)]

    async def invoke(
        self, path: str, document: MutableMapping[str, Any], scope: Scope, receive: Receive, outlet: Outlet, model: str
    ) -> None:
        """Answers an OpenAI body that came as an invocation, for `model`. Raises Refused with the application's own
        error, Throttled or Unavailable when that is what it says."""
        assert self._app is not None
        document["model"] = model
        body = json.dumps(document, ensure_ascii=False).encode()
        relay = _Relay(outlet)
        await self._app(_post(scope, path, len(body)), _replayed(body, receive), relay)
        await relay.finish()

    def _models(self, path: str) -> JSONResponse:
        names = [self._identity.model, *sorted(self._identity.adapters)]
        models = {
            name: {"id": name, "object": "model", "created": self._created, "owned_by": "hearth"} for name in names
        }
        if path == MODELS:
            return JSONResponse({"object": "list", "data": list(models.values())})
        name = path[len(MODELS) + 1 :]
        if name not in models:
            raise NotFound(f"The model {name[:100]} does not exist here.", field="model")
        return JSONResponse(models[name])


class _Relay:
    """A `send` for the mounted application: its successes go to the outlet as they come, an error is kept."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._status = 0
        self._type = b"application/json"
        self._error = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body":
            await self._body(message.get("body", b""), message.get("more_body", False))

    async def _start(self, message: Message) -> None:
        self._status = message["status"]
        headers = dict(message.get("headers", ()))
        self._type = headers.get(b"content-type", self._type)
        if self._status < 400:
            length = headers.get(b"content-length")
            await self._outlet.start(self._type, None if length is None else int(length))

    async def _body(self, data: bytes, more: bool) -> None:
        if self._status >= 400:
            self._error += data[: MAX_REFUSAL_BYTES - len(self._error)]
            return
        if self._outlet.ended:
            return
        await self._outlet.part(data)
        if self._outlet.framed and data.startswith(b'data: {"error"'):
            await self._outlet.fail(ModelFailed(_message(data.removeprefix(b"data: ").split(b"\n", 1)[0])))
        elif not more:
            await self._outlet.end()

    async def finish(self) -> None:
        """Called when the application has returned."""
        if self._status == 429:
            raise Throttled(_message(bytes(self._error)))
        if self._status == 503:
            raise Unavailable(_message(bytes(self._error)))
        if self._status >= 400:
            raise Refused(Refusal(self._status, bytes(self._error), self._type.decode("latin-1")))
        if self._status and not self._outlet.ended:
            await self._outlet.fail(ModelFailed("the model stopped in the middle of its answer"))


def _message(error: bytes) -> str:
    """The message of an OpenAI error object; what else it may be, as it is."""
    try:
        return str(json.loads(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return error.decode(errors="replace")[:500] or "the model failed while answering"


def _at(scope: Scope, path: str) -> Scope:
    return scope if scope["path"] == path else {**scope, "path": path, "raw_path": path.encode()}


def _post(scope: Scope, path: str, length: int) -> Scope:
    kept = [pair for pair in scope["headers"] if pair[0] == b"x-request-id"]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length), *kept]
    return {**scope, "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}


def _replayed(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay

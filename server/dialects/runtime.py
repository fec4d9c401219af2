"""Invocations: SageMaker Runtime (whole and streamed) and the container contract behind it.

A payload engine gets every body as it came. For the others, what a body is, its keys say: `inputs` goes to the
engine itself, OpenAI's keys go to the mounted OpenAI application (`server.dialects.openai.BY_BODY`), raw bytes with
an image type go to an image engine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.dialects import generation, text
from server.dialects.call import Call
from server.dialects.documents import document_of, json_type, read_body
from server.dialects.engine import Answer, Engines, ImageEngine, Prediction, TextEngine
from server.dialects.errors import (
    Refused,
    endpoint_not_found,
    error_response,
    model_error,
    payload_error,
)
from server.dialects.identity import Identity
from server.dialects.images import decode_text
from server.dialects.openai import OpenAI
from server.dialects.outlet import Broken, Outlet
from server.dialects.paths import Kind, Route
from server.errors import BadRequest, HearthError, ModelFailed, UnsupportedMedia
from server.spec import Limits

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

log = structlog.get_logger(__name__)

JSON = b"application/json"
SSE = b"text/event-stream"

JSON_TYPES = ("", "application/json", "application/octet-stream")
"""Content types of a JSON body; boto3 sends the last when it is told none."""
IMAGE_TYPES = ("application/x-image", "application/octet-stream")
"""Content types of an image as it is, beside image/*."""
ANSWERS = ("*/*", "application/*", "application/json", "text/event-stream", "application/vnd.amazon.eventstream",
           "application/octet-stream")  # fmt: skip
"""What Accept may ask for."""

BODY_KEYS = ("inputs", "parameters", "stream", "options", "model")
"""Keys of an `inputs` body. `options` holds hints for Hugging Face's hosted service (caching); nothing of it
applies here."""


class Runtime:
    """Answers invocations with the faces that the replica's engine has."""

    def __init__(self, engines: Engines, openai: OpenAI, identity: Identity, limits: Limits) -> None:
        self._engines = engines
        self._openai = openai
        self._identity = identity
        self._limits = limits

    async def serve(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        call = Call.of(scope)
        try:
            self.check(call, route)
            body = await read_body(receive, self._limits.max_body_bytes)
        except HearthError as error:
            await error_response(error, route, call.request_id)(scope, receive, send)
            return
        headers = call.answer_headers(self._identity) if route.kind is not Kind.CONTAINER else []
        outlet = Outlet(send, headers, framed=route.kind is Kind.STREAM)
        try:
            await self.answer(call, body, outlet, scope, receive, streams=route.kind is Kind.STREAM)
        except Refused as refused:
            answer = refused.refusal
            if route.kind is Kind.CONTAINER:
                await Response(answer.body, answer.status, None, answer.content_type)(scope, receive, send)
            else:
                await model_error(answer, self._identity, call.request_id)(scope, receive, send)
        except Broken:
            raise
        except Exception as error:
            failure = as_hearth_error(error, call.request_id)
            if outlet.started:
                await outlet.fail(failure, text.broken(failure))
            else:
                await payload_error(failure, route, self._identity, call.request_id)(scope, receive, send)

    def check(self, call: Call, route: Route) -> None:
        """Raises what is wrong with an invocation but for its body."""
        if route.endpoint is not None and route.endpoint != self._identity.endpoint:
            raise endpoint_not_found(route.endpoint, self._identity.account)
        if route.kind is not Kind.CONTAINER:
            call.check_headers(self._identity)
            call.check_component(self._identity)
        call.check_target(self._engines.targets, self._identity.endpoint)
        call.check_target_model(self._engines.many, self._engines.targets, self._identity.endpoint)
        if self._engines.payload is None and call.accept and not any(call.accepts(answer) for answer in ANSWERS):
            wanted = call.accept[:100]
            raise UnsupportedMedia(f"Accept: {wanted} cannot be answered, only application/json", field="Accept")

    async def answer(
        self, call: Call, body: bytes, outlet: Outlet, scope: Scope, receive: Receive, *, streams: bool
    ) -> None:
        """Answers one body into `outlet`. Raises Refused with a mounted application's own error, or HearthError;
        either may come when the answer has started."""
        if self._engines.payload is not None:
            await _payload(await self._engines.payload.invoke(call.invocation(body, streams=streams)), outlet)
            return
        if self._engines.image is not None and _is_image(call.content_type):
            parts = await self._images(self._engines.image, [body], {}, call.request_id)
            await outlet.whole(JSON, _json(parts[0]))
            return
        if call.content_type not in JSON_TYPES:
            raise self._unsupported(call.content_type)
        document = document_of(scope, body, self._limits.max_json_depth)
        if "inputs" in document:
            await self._inputs(call, document, outlet, streams=streams)
        elif path := self._openai.route_for(document):
            model = call.model(self._identity, document.get("model"))
            await self._openai.invoke(path, document, scope, receive, outlet, model)
        else:
            keys = [*self._inputs_keys(), *self._openai.accepted_keys()]
            raise BadRequest(f"the body has none of the keys this model answers: {', '.join(keys)}")

    async def _inputs(self, call: Call, document: dict[str, Any], outlet: Outlet, *, streams: bool) -> None:
        inputs, parameters, stream = self._envelope(document, streams=streams)
        model = call.model(self._identity, document.get("model"))
        engines, adapter = self._engines, model if model in self._identity.adapters else ""
        if adapter and engines.text is None:
            raise BadRequest(f"adapter {adapter} takes no inputs; it takes {', '.join(self._openai.accepted_keys())}")
        if engines.text is not None:
            await self._text(engines.text, inputs, parameters, outlet, call.request_id, adapter, stream=stream)
        elif engines.embedding is not None:
            _refuse_parameters(parameters, "an embedding model")
            texts = text.prompts(inputs, self._limits.max_batch, 1, stream=False)
            vectors = await engines.embedding.embed([texts] if isinstance(texts, str) else texts, call.request_id)
            await outlet.whole(JSON, _json(vectors))
        elif engines.image is not None:
            images, many = self._decoded(inputs)
            found = await self._images(engines.image, images, parameters, call.request_id)
            await outlet.whole(JSON, _json(found if many else found[0]))
        else:
            raise BadRequest(f"this model takes no inputs; it takes {', '.join(self._openai.accepted_keys())}")

    def _envelope(self, document: dict[str, Any], *, streams: bool) -> tuple[Any, dict[str, Any], bool]:
        """(inputs, parameters, stream) of an `inputs` body."""
        for key in document:
            if key not in BODY_KEYS:
                raise BadRequest(f"{key[:100]} is unknown; known are {', '.join(BODY_KEYS)}", field=key[:100])
        parameters = document.get("parameters")
        if parameters is None:
            parameters = {}
        if not isinstance(parameters, dict):
            raise BadRequest(f"parameters must be an object, not {json_type(parameters)}", field="parameters")
        stream = document.get("stream")
        if stream is None:
            stream = streams
        if not isinstance(stream, bool):
            raise BadRequest(f"stream must be true or false, not {json_type(stream)}", field="stream")
        return document["inputs"], parameters, stream

    async def _text(
        self,
        engine: TextEngine,
        inputs: Any,
        parameters: dict[str, Any],
        outlet: Outlet,
        request_id: str,
        adapter: str,
        *,
        stream: bool,
    ) -> None:
        wanted, shown = generation.parse(parameters, self._limits, stream=stream)
        wanted = replace(wanted, adapter=adapter) if adapter else wanted
        prompts = text.prompts(inputs, self._limits.max_batch, wanted.n, stream=stream)
        if not stream:
            await outlet.whole(JSON, _json(await text.answer(engine, prompts, wanted, shown, request_id)))
            return
        assert isinstance(prompts, str)
        async with aclosing(text.stream(engine, prompts, wanted, shown, request_id)) as events:
            async for event in events:
                if not outlet.started:
                    await outlet.start(SSE)
                await outlet.part(event)
        await outlet.end()

    def _decoded(self, inputs: Any) -> tuple[list[bytes], bool]:
        """Images of a JSON body, and whether there was a list of them."""
        many = isinstance(inputs, list)
        listed = inputs if many else [inputs]
        if not listed or not all(isinstance(each, str) for each in listed):
            raise BadRequest("inputs must be an image as base64 or data: URL, or a list of them", field="inputs")
        if len(listed) > self._limits.max_batch:
            raise BadRequest(f"inputs has {len(listed)} images; at most {self._limits.max_batch}", field="inputs")
        return [decode_text(each, "inputs") for each in listed], many

    async def _images(
        self, engine: ImageEngine, images: Sequence[bytes], parameters: dict[str, Any], request_id: str
    ) -> list[list[dict[str, Any]]]:
        found = await engine.predict(images, parameters, request_id)
        if len(found) != len(images):
            raise ModelFailed(f"the model answered {len(found)} of {len(images)} images")
        return [[_prediction(each) for each in predictions] for predictions in found]

    def _inputs_keys(self) -> list[str]:
        engines = self._engines
        return ["inputs"] if engines.text or engines.embedding or engines.image else []

    def _unsupported(self, content_type: str) -> UnsupportedMedia:
        accepted = "image/jpeg, image/png or another image type, application/x-image, application/json"
        if self._engines.image is None:
            accepted = "application/json"
        return UnsupportedMedia(
            f"Content-Type {content_type[:100]} is not supported; this model accepts {accepted}", field="ContentType"
        )


async def _payload(answer: Answer, outlet: Outlet) -> None:
    """Parts go out one by one where the client takes parts, else together."""
    content_type = answer.content_type.encode("ascii")
    if isinstance(answer.body, bytes) or not outlet.framed:
        await outlet.whole(content_type, await answer.whole())
        return
    async with aclosing(answer.body) as parts:
        await outlet.start(content_type)
        async for part in parts:
            await outlet.part(part)
    await outlet.end()


def as_hearth_error(error: Exception, request_id: str) -> HearthError:
    """What a client may see of `error`; the rest is logged."""
    if isinstance(error, HearthError):
        return error
    log.error("the model failed", request_id=request_id, exc_info=error)
    return ModelFailed("the model failed while answering")


def _is_image(content_type: str) -> bool:
    return content_type.startswith("image/") or content_type in IMAGE_TYPES


def _prediction(found: Prediction) -> dict[str, Any]:
    answer: dict[str, Any] = {"label": found.label, "score": found.score}
    if found.box is not None:
        answer["box"] = dict(zip(("xmin", "ymin", "xmax", "ymax"), found.box, strict=True))
    return answer


def _refuse_parameters(parameters: dict[str, Any], who: str) -> None:
    for name, value in parameters.items():
        if value is not None:
            raise BadRequest(f"parameter {name[:100]} is unknown; {who} has none", field=f"parameters.{name[:100]}")


def _json(value: Any) -> bytes:
    try:
        encoded = _ENCODER.encode(value)
    except ValueError:
        raise ModelFailed("the model answered a number that is not finite") from None
    return encoded.encode(errors="replace")



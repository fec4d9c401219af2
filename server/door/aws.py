"""The AWS services at this address that speak through `POST /`: SageMaker (JSON 1.1) and STS (query protocol)."""

from __future__ import annotations

import asyncio
import uuid
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from server.control import dispatch, sts
from server.control.instances import Machine
from server.control.operations import Context
from server.control.reply import Reply
from server.control.scope import scope
from server.errors import BadRequest, BodyTooLarge, RequestTimeout, UnknownOperation
from server.store.store import Store

MAX_BODY_BYTES = 4 * 1024 * 1024
BODY_TIMEOUT_S = 30.0
FORM = "application/x-www-form-urlencoded"


class AwsApi:
    """One address for all regions: a caller sees the region that its request is signed for."""

    def __init__(self, store: Store, machine: Machine) -> None:
        self._store = store
        self._machine = machine

    def routes(self) -> list[Route]:
        return [Route("/", self.call, methods=["POST"])]

    async def call(self, request: Request) -> Response:
        signed = scope(request.headers, request.query_params)
        store = self._store.within(signed.region if signed else self._store.region)
        context = Context(store, self._machine, request.headers.get("x-request-id") or str(uuid.uuid4()))
        target = request.headers.get("x-amz-target", "")
        try:
            body = await asyncio.wait_for(_body(request), BODY_TIMEOUT_S)
        except BodyTooLarge as error:
            return _response(dispatch.failure(error, target, context))
        except (TimeoutError, ClientDisconnect):
            late = RequestTimeout("The body did not arrive in time.")
            return _response(dispatch.failure(late, target, context))
        if target:
            return _response(await asyncio.to_thread(dispatch.call, context, target, body))
        if request.headers.get("content-type", "").startswith(FORM):
            return _response(_query(context, signed.service if signed else "", body))
        nothing = BadRequest("A POST to / is an AWS call; it needs X-Amz-Target, or a form with an Action.")
        return _response(dispatch.failure(nothing, target, context))


def _query(context: Context, service: str, body: bytes) -> Reply:
    form = dict(parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True))
    if service in ("", "sts"):
        return sts.call(context, form)
    message = f"Hearth does not answer for {service}, so it has no {form.get('Action', 'operation')} of it."
    return sts.refusal(context, UnknownOperation.code, message)


async def _body(request: Request) -> bytes:
    """Raises BodyTooLarge as soon as it is."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers))

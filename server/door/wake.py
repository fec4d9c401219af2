"""Requests that the edge could not hand to a replica itself: the endpoint sleeps, the body was too large for
the edge to look into, or there is no such endpoint. Held here, bounded, then sent on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers as HeaderView
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from server.dialects.documents import parse_object
from server.dialects.errors import ENDPOINT_FIELD
from server.door.body import whole
from server.door.control_client import ControlClient
from server.door.forward import Answer, Forwardable, Forwarder
from server.door.keeper import Doorkeeper
from server.door.refusal import refusal
from server.errors import BadRequest, BodyTooLarge, HearthError, NotFound, NotReady, Throttled
from server.identity.authority import Claim
from server.settings import Settings
from server.spec import EndpointSpec
from server.store.store import Store

HELD_BYTES = 512 * 1024 * 1024
"""Bound on the bodies held for sleeping endpoints together."""
JSON_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint, and its ARN."""

    spec: EndpointSpec
    arn: str


class Waker:
    """An ASGI application: finds the endpoint, waits for it, forwards, streams the answer back."""

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str], Found],
        control: ControlClient,
        forwarder: Forwarder,
        keeper: Doorkeeper | None = None,
    ) -> None:
        self._settings = settings
        self._find = find
        self._control = control
        self._forwarder = forwarder
        self._keeper = keeper
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        held = 0
        try:
            claim = None if self._keeper is None else await self._keeper.claim(scope)
            found, body = await self._read(request)
            spec = found.spec
            held = len(body)
            if self._keeper is not None and claim is not None:
                self._admit(self._keeper, claim, scope, found.arn, body)
            self._hold(held)
            answer = await self._unless_gone(receive, self._answer(_forwardable(request, spec.name, body)))
        except HearthError as error:
            await refusal(error, scope["path"], _request_id(scope))(scope, receive, send)
            return
        except ClientDisconnect:
            return
        finally:
            self._held -= held
        try:
            await _relay(answer, receive, send)
        finally:
            await answer.close()

    async def _read(self, request: Request) -> tuple[Found, bytes]:
        """The endpoint the request is for, and its body."""
        parts = request.scope["path"].split("/")
        if parts[1] == "endpoints" and len(parts) > 2:
            found = await asyncio.to_thread(self._find, parts[2])
            return found, await whole(request, _limit(found.spec))
        body = await whole(request, self._largest)
        model = parse_object(body, JSON_DEPTH).get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("Give `model`: the name of an endpoint.", field="model")
        found = await asyncio.to_thread(self._find, model)
        if len(body) > _limit(found.spec):
            raise BodyTooLarge(f"The body is larger than {_limit(found.spec)} bytes.")
        return found, body

    def _admit(self, keeper: Doorkeeper, claim: Claim, scope: Scope, arn: str, body: bytes) -> None:
        """Nobody wakes an endpoint who may not call it; the replica asks again. Raises Unauthenticated, Forbidden."""
        caller = keeper.authority.prove(claim, body)
        streams = scope["path"].endswith("/invocations-response-stream")
        action = "InvokeEndpointWithResponseStream" if streams else "InvokeEndpoint"
        keeper.check(caller, scope, f"sagemaker:{action}", arn)

    @property
    def _largest(self) -> int:
        return self._settings.max_body_bytes

    def _hold(self, size: int) -> None:
        if self._held + size > HELD_BYTES:
            raise Throttled("Too many requests wait for sleeping endpoints.", retry_after=5)
        self._held += size

    async def _answer(self, request: Forwardable) -> Answer:
        deadline = time.monotonic() + self._settings.wake_timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotReady(
                    f"Endpoint {request.endpoint} did not become ready within {self._settings.wake_timeout_s:.0f} s."
                )
            if answer := await self._forwarder.send(request):
                return answer
            await self._control.wake(request.endpoint, left)
            await asyncio.sleep(0.02)

    async def _unless_gone(self, receive: Receive, work: object) -> Answer:
        """Awaits `work` unless the client leaves first. Raises ClientDisconnect."""
        answering = asyncio.ensure_future(work)  # type: ignore[call-overload]
        leaving = asyncio.ensure_future(_gone(receive))
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if answering.done():
            return answering.result()  # type: ignore[no-any-return]
        answering.cancel()
        raise ClientDisconnect


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _relay(answer: Answer, receive: Receive, send: Send) -> None:
    """Streams the answer to the client; stops reading from the replica when the client leaves."""

    async def copy() -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        async for chunk in answer.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    copying = asyncio.ensure_future(copy())
    leaving = asyncio.ensure_future(_gone(receive))
    await asyncio.wait((copying, leaving), return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not copying.done():
        copying.cancel()
        return
    copying.result()


def _forwardable(request: Request, endpoint: str, body: bytes) -> Forwardable:
    scope = request.scope
    query = scope["query_string"].decode("latin-1")
    target = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    return Forwardable(
        endpoint, request.method, f"{target}?{query}" if query else target, scope["headers"], body
    )


def _limit(spec: EndpointSpec) -> int:
    return max(variant.limits.max_body_bytes for variant in spec.variants)


def _request_id(scope: Scope) -> str:
    return HeaderView(scope=scope).get("x-request-id", "")


def finder(store: Store, account: str) -> Callable[[str], Found]:
    """Looks endpoints up by name. Raises NotFound in SageMaker's words."""

    def find(name: str) -> Found:
        try:
            resource = store.get("Endpoint", name)
        except NotFound:
            raise NotFound(f"Endpoint {name} of account {account} not found.", field=ENDPOINT_FIELD) from None
        if resource.status == "Deleting":
            raise NotFound(f"Endpoint {name} of account {account} not found.", field=ENDPOINT_FIELD)
        return Found(EndpointSpec.model_validate(resource.document), resource.arn)

    return find

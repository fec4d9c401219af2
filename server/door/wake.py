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

from server.control import components
from server.dialects.call import TARGET_VARIANT
from server.dialects.documents import parse_object
from server.dialects.errors import endpoint_not_found
from server.door.body import whole
from server.door.components import component_of
from server.door.control_client import ControlClient
from server.door.forward import Answer, Forwardable, Forwarder
from server.door.keeper import Doorkeeper
from server.door.refusal import refusal
from server.edge.routes import place
from server.errors import BadRequest, BodyTooLarge, HearthError, NotFound, NotReady, Throttled
from server.identity.authority import Claim
from server.settings import Settings
from server.spec import EndpointSpec
from server.store.store import Resource, Store

HELD_BYTES = 512 * 1024 * 1024
"""Bound on the bodies held for sleeping endpoints together."""
JSON_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint, its ARN and its account."""

    spec: EndpointSpec
    arn: str
    account: str
    component: str = ""
    """The inference component by whose name it was found."""


class Waker:
    """An ASGI application: finds the endpoint, waits for it, forwards, streams the answer back."""

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str, str], Found],
        components: Callable[[str, str, str], Resource | None],
        control: ControlClient,
        forwarder: Forwarder,
        keeper: Doorkeeper | None = None,
    ) -> None:
        self._settings = settings
        self._find = find
        self._components = components
        self._control = control
        self._forwarder = forwarder
        self._keeper = keeper
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        held = 0
        try:
            claim = None if self._keeper is None else await self._keeper.claim(scope)
            account = self._settings.account if claim is None else claim.account
            name, found, body = await self._read(request, account, open=claim is None)
            held = len(body)
            if self._keeper is not None and claim is not None:
                arn = self._keeper.arn(account, "endpoint", name) if found is None else found.arn
                self._admit(self._keeper, claim, scope, arn, body)
            if found is None:
                raise endpoint_not_found(name, account)
            self._hold(held)
            _check_target(scope, found.spec)
            component = await asyncio.to_thread(component_of, self._components, scope, body, found)
            answer = await self._unless_gone(receive, self._answer(request, found, component, body))
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

    async def _read(self, request: Request, account: str, *, open: bool) -> tuple[str, Found | None, bytes]:
        """The name of the endpoint that the request is for, the endpoint if the account has it, and the body. Raises
        NotFound where nobody is asked who they are; else that is said only to who has shown it."""
        parts = request.scope["path"].split("/")
        if parts[1] == "endpoints" and len(parts) > 2:
            found = await self._found(account, parts[2], open=open)
            if found is not None and found.component:
                raise endpoint_not_found(parts[2], account)
            return parts[2], found, await whole(request, self._limit(found))
        body = await whole(request, self._largest)
        model = parse_object(body, JSON_DEPTH).get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("Give `model`: the name of an endpoint.", field="model")
        found = await self._found(account, model, open=open)
        if len(body) > self._limit(found):
            raise BodyTooLarge(f"The body is larger than {self._limit(found)} bytes.")
        return model, found, body

    async def _found(self, account: str, name: str, *, open: bool) -> Found | None:
        try:
            return await asyncio.to_thread(self._find, account, name)
        except NotFound:
            if open:
                raise
            return None

    def _limit(self, found: Found | None) -> int:
        """Bytes of a body."""
        if found is None:
            return self._largest
        return max(variant.limits.max_body_bytes for variant in found.spec.variants)

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

    async def _answer(self, asked: Request, found: Found, component: str, body: bytes) -> Answer:
        name = found.spec.name
        account = "" if found.account == self._settings.account else found.account
        request = _forwardable(asked, place(account, name, component), body)
        deadline = time.monotonic() + self._settings.wake_timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotReady(
                    f"Endpoint {name} did not become ready within {self._settings.wake_timeout_s:.0f} s."
                )
            if answer := await self._forwarder.send(request):
                return answer
            await self._control.wake(name, left, account, component)
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


def _forwardable(request: Request, where: str, body: bytes) -> Forwardable:
    scope = request.scope
    query = scope["query_string"].decode("latin-1")
    target = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    return Forwardable(
        where, request.method, f"{target}?{query}" if query else target, scope["headers"], body
    )


def _check_target(scope: Scope, spec: EndpointSpec) -> None:
    """Raises BadRequest for a variant that takes no requests, be it that there is none or that it is a shadow."""
    named = HeaderView(scope=scope).get(TARGET_VARIANT.decode())
    sides = (spec, spec.pending.spec) if spec.pending else (spec,)
    if named is not None and not any(variant.name == named for side in sides for variant in side.variants):
        raise BadRequest(f"Variant {named} was not found for endpoint {spec.name}.", field="TargetVariant")


def _request_id(scope: Scope) -> str:
    return HeaderView(scope=scope).get("x-request-id", "")


def finder(store: Store) -> Callable[[str, str], Found]:
    """Looks endpoints up by account and name, or by that of a component. Raises NotFound in SageMaker's words."""

    def find(account: str, name: str) -> Found:
        own, component = store.of(account), ""
        try:
            resource = own.get("Endpoint", name)
        except NotFound:
            try:
                part = own.get(components.KIND, name)
                resource, component = own.get("Endpoint", part.document["EndpointName"]), part.name
            except NotFound:
                raise endpoint_not_found(name, account) from None
        if resource.status == "Deleting":
            raise endpoint_not_found(name, account)
        return Found(EndpointSpec.model_validate(resource.document), resource.arn, account, component)

    return find

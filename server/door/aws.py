"""The AWS services at this address, whatever their protocol: JSON and query at `POST /`, CBOR below `/service`."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.control.dispatch import Dispatcher
from server.control.instances import Machine
from server.control.operations import Client, Context
from server.control.protocols.cbor import CBOR
from server.control.protocols.json import JSON
from server.control.protocols.query import QUERY, form
from server.control.protocols.wire import Wire
from server.control.reply import Reply
from server.control.scope import Scope, scope
from server.control.service import Service
from server.control.services import SERVICES, by_query, by_target
from server.door.body import CONTROL_BYTES, whole
from server.door.keeper import Doorkeeper
from server.errors import BadRequest, HearthError, UnknownOperation
from server.settings import part
from server.store.quotas import Defaults
from server.store.store import Store
from server.vault.vault import Vault

FORM = "application/x-www-form-urlencoded"
MAIN = SERVICES["sagemaker"]
"""In whose words a call that is nobody's is refused."""


class AwsApi:
    """One address for all accounts and regions: a caller sees its own account, in the region that its request is
    signed for. `store` is this Hearth's own account's."""

    def __init__(
        self,
        store: Store,
        machine: Machine,
        dispatcher: Dispatcher | None = None,
        *,
        logs: Path | None = None,
        vault: Vault | None = None,
        keeper: Doorkeeper | None = None,
        quotas: Defaults | None = None,
    ) -> None:
        self._store = store
        self._machine = machine
        self._dispatcher = dispatcher or Dispatcher()
        self._keeper = keeper
        self._logs = logs
        self._vault = vault
        self._quotas = quotas or Defaults()

    def routes(self) -> list[Route]:
        return [
            Route("/", self.call, methods=["POST"]),
            Route("/service/{service}/operation/{operation}", self.call, methods=["POST"]),
        ]

    async def call(self, request: Request) -> Response:
        signed = scope(request.headers, request.query_params)
        context = self._context(request, signed)
        wire = _wire(request)
        try:
            body = await whole(request, CONTROL_BYTES)
            service, operation = _address(request, wire, signed.service if signed else "", body)
        except HearthError as error:
            return self._refuse(self._claimed(context), wire, error)
        if self._keeper is not None:
            try:
                caller = await self._keeper.caller(request.scope, body, (service.signing_name,))
            except HearthError as error:
                return _response(self._dispatcher.refuse(self._claimed(context), service, operation, wire, error))
            context = replace(self._bound(context, caller.account), caller=caller)
        return _response(await asyncio.to_thread(self._dispatcher.call, context, service, operation, wire, body))

    def _context(self, request: Request, signed: Scope | None) -> Context:
        headers = request.headers
        client = Client(
            headers.get("x-forwarded-for", ""), headers.get("user-agent", ""),
            headers.get("x-forwarded-proto") == "https", signed.access_key if signed else "",
        )  # fmt: skip
        store = self._store.within(signed.region if signed else self._store.region)
        request_id = headers.get("x-request-id") or str(uuid.uuid4())
        return Context(
            store, self._machine, request_id, client=client, logs=self._logs, vault=self._vault, quotas=self._quotas,
            own=self._store.account,
        )  # fmt: skip

    def _claimed(self, context: Context) -> Context:
        """For a caller who is refused: the account whose key it names, so that no other's audit log tells of it."""
        account = None if self._keeper is None else self._keeper.authority.account_of(context.client.access_key)
        return context if account is None else self._bound(context, account)

    def _bound(self, context: Context, account: str) -> Context:
        """`context` as an account sees it."""
        logs = None if self._logs is None else part(self._logs, account, self._store.account)
        return replace(context, store=context.store.of(account), logs=logs)

    def _refuse(self, context: Context, wire: Wire, error: HearthError) -> Response:
        return _response(self._dispatcher.refuse(context, MAIN, "", wire, error))


def _wire(request: Request) -> Wire:
    if request.path_params:
        return CBOR
    has_form = request.headers.get("content-type", "").startswith(FORM)
    return QUERY if has_form and "x-amz-target" not in request.headers else JSON


def _address(request: Request, wire: Wire, signing_name: str, body: bytes) -> tuple[Service, str]:
    """The service and operation that a call names. Raises BadRequest for what is no call, UnknownOperation for
    one of a service that is not here."""
    if wire is CBOR:
        named, operation = request.path_params["service"], request.path_params["operation"]
        return _known(by_target(named), f"{named}.{operation}"), operation
    if wire is QUERY:
        fields = form(body)
        action = fields.get("Action", "")
        return _known(by_query(signing_name, action, fields.get("Version", "")), f"{signing_name}:{action}"), action
    target = request.headers.get("x-amz-target", "")
    if not target:
        raise BadRequest("A POST to / is an AWS call; it needs X-Amz-Target, or a form with an Action.")
    prefix, _, operation = target.rpartition(".")
    return _known(by_target(prefix), target), operation


def _known(service: Service | None, named: str) -> Service:
    if service is None:
        raise UnknownOperation(f"{named!r} names no operation of a service that Hearth answers for.")
    return service


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers))

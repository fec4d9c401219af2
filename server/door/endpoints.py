"""Hearth's own small API for endpoints: what the command line and the console call."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.control import endpoints
from server.control.images import check_remote
from server.dialects.documents import parse_object
from server.door.asking import Handler, asked
from server.door.audit import HearthAudit
from server.door.body import CONTROL_BYTES, whole
from server.door.control_client import ControlClient, of_account
from server.door.keeper import Doorkeeper, caller_of, seen_by, tenant_of
from server.errors import BadRequest
from server.shadow import reports
from server.spec import EndpointSpec
from server.store.quotas import Defaults
from server.store.store import Resource, Store

MAX_DEPTH = 64
MAX_PROBLEMS = 20
"""What is wrong with a document, as far as one message says it."""


class EndpointsApi:
    """`/hearth/endpoints`: list, describe, deploy, delete; `/hearth/state`: replicas as they are now."""

    def __init__(
        self,
        store: Store,
        control: ControlClient,
        audit: HearthAudit,
        keeper: Doorkeeper | None = None,
        quotas: Defaults | None = None,
    ) -> None:
        self._quotas = quotas or Defaults()
        self._store = store
        self._audit = audit
        self._control = control
        self._keeper = keeper

    def routes(self) -> list[Route]:
        return [
            self._route("GET", "/hearth/endpoints", self.list),
            self._route("GET", "/hearth/endpoints/{name}", self.describe),
            self._route("GET", "/hearth/endpoints/{name}/shadow", self.shadow),
            self._route("PUT", "/hearth/endpoints/{name}", self.deploy, "DeployEndpoint"),
            self._route("DELETE", "/hearth/endpoints/{name}", self.delete, "DeleteEndpoint"),
            self._route("GET", "/hearth/state", self.state),
        ]

    def _route(self, method: str, path: str, handler: Handler, event: str = "") -> Route:
        """Asks who calls; the audit log has every call of `event`, refused ones too."""
        found = asked(self._keeper, method, path, handler)
        return Route(path, self._audit.watch(event, found) if event else found, methods=[method])

    async def list(self, request: Request) -> Response:
        found = await asyncio.to_thread(endpoints.find, seen_by(request, self._store))
        return JSONResponse({"endpoints": [shown(resource) for resource in found]})

    async def describe(self, request: Request) -> Response:
        found = await asyncio.to_thread(endpoints.describe, seen_by(request, self._store), request.path_params["name"])
        return JSONResponse(shown(found))

    async def shadow(self, request: Request) -> Response:
        """How the answers of its shadow variants compare with production's, experiments that are over included."""
        name = request.path_params["name"]
        store = seen_by(request, self._store)
        found = await asyncio.to_thread(reports.found, store, name)
        if not found:
            await asyncio.to_thread(endpoints.describe, store, name)
        return JSONResponse({"endpoint": name, "reports": found})

    async def deploy(self, request: Request) -> Response:
        """The body is an endpoint's document without its name (`variants`), or one variant's."""
        request.state.document = body = parse_object(await whole(request, CONTROL_BYTES), MAX_DEPTH)
        document = body if "variants" in body else {"variants": [body]}
        try:
            spec = EndpointSpec.model_validate({**document, "name": request.path_params["name"]})
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_PROBLEMS]
            problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'document'}: {p['msg']}" for p in found)
            raise BadRequest(problems, field=str(next(reversed(found[0]["loc"]), "variants"))) from None
        if tenant_of(caller_of(request), self._store.account):
            for each in (part for variant in spec.fleet for part in (variant.containers or (variant,))):
                check_remote(each.model)  # this machine's files are the own account's
        store = seen_by(request, self._store)
        return JSONResponse(shown(await asyncio.to_thread(endpoints.deploy, store, spec, self._quotas)), 202)

    async def delete(self, request: Request) -> Response:
        found = await asyncio.to_thread(endpoints.delete, seen_by(request, self._store), request.path_params["name"])
        return JSONResponse(shown(found), 202)

    async def state(self, request: Request) -> Response:
        account = tenant_of(caller_of(request), self._store.account)
        return JSONResponse(of_account(await self._control.state(), account))


def shown(resource: Resource) -> dict[str, Any]:
    """A resource as this API answers it."""
    return {
        "name": resource.name,
        "arn": resource.arn,
        "status": resource.status,
        "reason": resource.reason,
        "generation": resource.generation,
        "created_at": resource.created_at.isoformat(),
        "modified_at": resource.modified_at.isoformat(),
        "document": resource.document,
    }

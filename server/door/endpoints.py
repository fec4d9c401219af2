"""Hearth's own small API for endpoints: what the command line and the console call."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.control import endpoints
from server.door.audit import HearthAudit
from server.door.control_client import ControlClient
from server.errors import BadRequest
from server.spec import EndpointSpec
from server.store.store import Resource, Store


class EndpointsApi:
    """`/hearth/endpoints`: list, describe, deploy, delete; `/hearth/state`: replicas as they are now."""

    def __init__(self, store: Store, control: ControlClient, audit: HearthAudit) -> None:
        self._store = store
        self._audit = audit
        self._control = control

    def routes(self) -> list[Route]:
        return [
            Route("/hearth/endpoints", self.list),
            Route("/hearth/endpoints/{name}", self.describe),
            Route("/hearth/endpoints/{name}", self._audit.watch("DeployEndpoint", self.deploy), methods=["PUT"]),
            Route("/hearth/endpoints/{name}", self._audit.watch("DeleteEndpoint", self.delete), methods=["DELETE"]),
            Route("/hearth/state", self.state),
        ]

    async def list(self, _request: Request) -> Response:
        found = await asyncio.to_thread(endpoints.find, self._store)
        return JSONResponse({"endpoints": [shown(resource) for resource in found]})

    async def describe(self, request: Request) -> Response:
        found = await asyncio.to_thread(endpoints.describe, self._store, request.path_params["name"])
        return JSONResponse(shown(found))

    async def deploy(self, request: Request) -> Response:
        """The body is an endpoint's document without its name (`variants`), or one variant's."""
        try:
            body = await request.json()
        except ValueError:
            raise BadRequest("The body must be JSON.") from None
        if not isinstance(body, dict):
            raise BadRequest("The body must be a JSON object.")
        document = body if "variants" in body else {"variants": [body]}
        try:
            spec = EndpointSpec.model_validate({**document, "name": request.path_params["name"]})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
            raise BadRequest(problems, field=str(error.errors()[0]["loc"][-1])) from None
        return JSONResponse(shown(await asyncio.to_thread(endpoints.deploy, self._store, spec)), 202)

    async def delete(self, request: Request) -> Response:
        found = await asyncio.to_thread(endpoints.delete, self._store, request.path_params["name"])
        return JSONResponse(shown(found), 202)

    async def state(self, _request: Request) -> Response:
        return JSONResponse(await self._control.state())


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

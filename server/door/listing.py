"""OpenAI's model listing: every endpoint is a model, awake or asleep."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.control import endpoints
from server.door.keeper import seen_by
from server.errors import NotFound
from server.store.store import Resource, Store


class Models:
    """`GET /v1/models` and `GET /v1/models/{model}`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        return [Route("/v1/models", self.list), Route("/v1/models/{model}", self.one)]

    async def list(self, request: Request) -> Response:
        found = await asyncio.to_thread(endpoints.find, seen_by(request, self._store))
        return JSONResponse({"object": "list", "data": [_card(r) for r in found if r.status != "Deleting"]})

    async def one(self, request: Request) -> Response:
        name = request.path_params["model"]
        try:
            return JSONResponse(_card(await asyncio.to_thread(endpoints.describe, seen_by(request, self._store), name)))
        except NotFound:
            raise NotFound(f"The model `{name}` does not exist.", field="model") from None


def _card(resource: Resource) -> dict[str, Any]:
    created = int(resource.created_at.timestamp())
    return {"id": resource.name, "object": "model", "created": created, "owned_by": "hearth"}

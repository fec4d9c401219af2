"""OpenAI's model listing: every endpoint and every inference component is a model, awake or asleep."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.control import components, endpoints
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
        found = await asyncio.to_thread(_models, seen_by(request, self._store))
        return JSONResponse({"object": "list", "data": [_card(r) for r in found if r.status != "Deleting"]})

    async def one(self, request: Request) -> Response:
        name = request.path_params["model"]
        try:
            return JSONResponse(_card(await asyncio.to_thread(_model, seen_by(request, self._store), name)))
        except NotFound:
            raise NotFound(f"The model `{name}` does not exist.", field="model") from None


def _models(store: Store) -> list[Resource]:
    """Endpoints and inference components, but not the endpoints that only hold those."""
    found = endpoints.find(store)
    parts = [each for each in store.find(components.KIND) if each.status != "Failed"]
    return [each for each in found if not _hosts(each)] + parts


def _model(store: Store, name: str) -> Resource:
    """Raises NotFound."""
    try:
        return endpoints.describe(store, name)
    except NotFound:
        return store.get(components.KIND, name)


def _hosts(endpoint: Resource) -> bool:
    return any(variant.get("hosts") for variant in endpoint.document["variants"])


def _card(resource: Resource) -> dict[str, Any]:
    created = int(resource.created_at.timestamp())
    return {"id": resource.name, "object": "model", "created": created, "owned_by": "hearth"}

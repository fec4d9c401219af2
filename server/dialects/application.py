"""The application that a replica serves below its guard: each address to the dialect that it speaks."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.dialects.call import Call
from server.dialects.engine import Engines
from server.dialects.errors import error_response
from server.dialects.identity import Identity
from server.dialects.openai import OpenAI
from server.dialects.paths import Kind, Route, route_of
from server.dialects.runtime import Runtime
from server.errors import HearthError, NotFound, Unavailable
from server.spec import Limits

log = structlog.get_logger(__name__)


def dialect_app(
    engines: Engines, identity: Identity, limits: Limits, alive: Callable[[], bool] = lambda: True
) -> ASGIApp:
    """ASGI application of one replica; see `server.dialects.paths.ROUTES` for its addresses. `alive` says
    whether the engine still works, for `/ping`."""
    openai = OpenAI(engines, identity)
    runtime = Runtime(engines, openai, identity, limits)

    async def ping(scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        if not alive():
            raise Unavailable("the engine is dead")
        await Response(status_code=200)(scope, receive, send)

    async def metrics(scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        await Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)(scope, receive, send)

    async def unknown(scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        raise NotFound(f"{scope['method']} {scope['path'][:200]} is not an address of this service")

    answers = {
        Kind.PING: ping,
        Kind.METRICS: metrics,
        Kind.CONTAINER: runtime.serve,
        Kind.RUNTIME: runtime.serve,
        Kind.STREAM: runtime.serve,
        Kind.OPENAI: openai.serve,
        Kind.UNKNOWN: unknown,
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        route = route_of(scope["path"])
        answer = answers[route.kind] if scope["method"] in route.methods else unknown
        try:
            await answer(scope, receive, send, route)
        except HearthError as error:
            await error_response(error, route, Call.of(scope).request_id)(scope, receive, send)

    return app

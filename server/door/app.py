"""The door: everything that is not warm inference. One list of routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from server.door.control_client import ControlClient
from server.door.endpoints import EndpointsApi
from server.door.forward import Forwarder
from server.door.listing import Models
from server.door.pages import ready_page
from server.door.refusal import refusal
from server.door.scrape import Scraper
from server.door.wake import Waker, finder
from server.errors import BadRequest, HearthError, NotFound
from server.launch import Launch, edge_config
from server.store.store import Store

JSON_PROTOCOL = "application/x-amz-json-1.1"


def application(launch: Launch, store: Store) -> Starlette:
    settings = launch.settings
    control = ControlClient(launch.control_url, launch.token)
    forwarder = Forwarder(edge_config(settings).internal_socket, read_timeout_s=3600.0)
    waker = Waker(settings, finder(store, settings.account), control, forwarder)
    scraper = Scraper(control, edge_config(settings).internal_socket)

    async def home(request: Request) -> Response:
        return HTMLResponse(await asyncio.to_thread(ready_page, settings, store))

    async def metrics(_request: Request) -> Response:
        return Response(await scraper.scrape(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def ping(_request: Request) -> Response:
        """Healthy when the endpoint behind the container contract, if one is named, can answer."""
        if settings.default_endpoint is not None:
            resource = await asyncio.to_thread(store.get, "Endpoint", settings.default_endpoint)
            if resource.status not in ("InService", "Updating"):
                return JSONResponse({"status": resource.status}, 503)
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await control.close()
        await forwarder.close()
        await scraper.close()

    return Starlette(
        routes=[
            Route("/", home),
            Route("/", aws_operation, methods=["POST"]),
            Route("/ping", ping),
            Route("/metrics", metrics),
            *Models(store).routes(),
            *EndpointsApi(store, control).routes(),
            Mount("/endpoints", waker),
            Mount("/v1", waker),
        ],
        exception_handlers={HearthError: refuse, HTTPException: refuse_route, Exception: fail},
        lifespan=lifespan,
    )


async def aws_operation(request: Request) -> Response:
    """Control-plane calls (AWS JSON 1.1): none is built yet, and none is pretended."""
    target = request.headers.get("x-amz-target", "")
    if not target:
        raise BadRequest("A POST to / is an AWS call; it needs the header X-Amz-Target.")
    message = f"The operation {target.rpartition('.')[2]} is not one that Hearth has."
    return JSONResponse(
        {"__type": "UnknownOperationException", "message": message},
        400,
        headers={"x-amzn-errortype": "UnknownOperationException"},
        media_type=JSON_PROTOCOL,
    )


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HearthError)
    return refusal(error, request.url.path, request.headers.get("x-request-id", ""))


async def refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        problem: HearthError = BadRequest(f"{request.method} is not a method of {request.url.path}.")
        problem.status = 405
    else:
        problem = NotFound(f"There is nothing at {request.url.path}.")
    return await refuse(request, problem)


async def fail(request: Request, _error: Exception) -> Response:
    """What nobody foresaw: logged by Starlette with its trace, answered without it."""
    return await refuse(request, HearthError("Something went wrong inside Hearth; the log has it."))

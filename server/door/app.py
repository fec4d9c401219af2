"""The door: everything that is not warm inference. One list of routes, and S3 beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from server.audit.keeper import Keeper
from server.audit.log import AuditLog
from server.control.audit import ControlAudit
from server.control.authorization import Authorizer
from server.control.dispatch import Dispatcher, anyone
from server.control.endpoints import SERVING
from server.control.instances import Machine
from server.door.asking import asking
from server.door.audit import HearthAudit, ObjectsAudit
from server.door.aws import AwsApi
from server.door.components import component_finder
from server.door.control_client import ControlClient
from server.door.endpoints import EndpointsApi
from server.door.events import EventsApi
from server.door.forward import Forwarder
from server.door.keeper import Doorkeeper, caller_of, seen_by
from server.door.listing import Models
from server.door.objects import ObjectGate
from server.door.pages import ready_page
from server.door.refusal import refusal
from server.door.scrape import Scraper, View
from server.door.wake import Waker, finder
from server.errors import BadRequest, HearthError, NotFound
from server.identity.authority import Authority
from server.identity.judge import Judge
from server.identity.key_policies import KeyPolicies
from server.identity.snapshot import Camera
from server.launch import Launch, edge_config
from server.objects.app import ObjectsApp
from server.objects.app import application as object_store
from server.objects.request import is_object_request
from server.store.quotas import Defaults
from server.store.store import THREADS, Store
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault


class Door:
    """Hands S3's requests, which may have any path, to the object store, and all others to the routes."""

    def __init__(self, routes: Starlette, objects: ObjectsApp, keeper: Doorkeeper | None) -> None:
        self.routes = routes
        self.objects = objects
        self._keeper = keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_object_request(scope, self.objects.hosts):
            await self.routes(scope, receive, send)
            return
        try:
            if self._keeper is not None:
                await self._keeper.fresh()
        except HearthError as error:
            await refusal(error, scope["path"], "")(scope, receive, send)
            return
        await self.objects(scope, receive, send)


def application(launch: Launch, store: Store) -> Door:
    settings = launch.settings
    control = ControlClient(launch.control_url, launch.token, launch.nodes)
    forwarder = Forwarder(edge_config(settings).internal_socket, read_timeout_s=3600.0)
    vault = Vault(store.engine, settings.master_keys)
    keeper = _keeper(launch, store, vault) if settings.authenticates else None
    waker = Waker(settings, finder(store), component_finder(store), control, forwarder, keeper)
    scraper = Scraper(control, edge_config(settings).internal_socket, launch.nodes)

    async def home(request: Request) -> Response:
        return HTMLResponse(await asyncio.to_thread(ready_page, settings, seen_by(request, store)))

    async def metrics(request: Request) -> Response:
        caller = caller_of(request)
        view = View.of(caller, settings.account)
        return Response(await scraper.scrape(view), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def ping(_request: Request) -> Response:
        """Healthy when the endpoint behind the container contract, if one is named, can answer."""
        if settings.default_endpoint is not None:
            resource = await asyncio.to_thread(store.get, "Endpoint", settings.default_endpoint)
            if resource.status not in SERVING:
                return JSONResponse({"status": resource.status}, 503)
        return JSONResponse({"status": "ok"})

    machine = Machine.here(settings.reserve_instances)
    quotas = Defaults.of(settings)
    audit = AuditLog(store.engine, Keeper(settings.state_dir))
    gate = None if keeper is None else ObjectGate(keeper)
    whose = None if keeper is None else keeper.authority.account_of
    objects = object_store(settings, gate, ObjectsAudit(audit, settings, whose=whose).observe, vault)
    authorize = anyone if keeper is None else Authorizer(keeper.judge)
    dispatcher = Dispatcher(authorize, ControlAudit(audit, settings.audit_data_share).observe)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # More than asyncio's own on a small machine: reads go on while writers wait for a store that is held.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        remembering = None if keeper is None else asyncio.create_task(keeper.remember(store))
        yield
        if remembering is not None:
            remembering.cancel()
            await asyncio.gather(remembering, return_exceptions=True)
        await asyncio.to_thread(objects.close)
        await asyncio.to_thread(audit.close)
        await control.close()
        await forwarder.close()
        await scraper.close()

    routes = Starlette(
        routes=[
            *AwsApi(
                store, machine, dispatcher, logs=settings.log_dir, vault=vault, keeper=keeper, quotas=quotas
            ).routes(),
            Route("/ping", ping),
            *asking(
                [Route("/", home), Route("/metrics", metrics), *Models(store).routes(), *EventsApi(store).routes()],
                keeper,
            ),
            *EndpointsApi(store, control, HearthAudit(audit, settings), keeper, quotas).routes(),
            Mount("/endpoints", waker),
            Mount("/v1", waker),
        ],
        exception_handlers={HearthError: refuse, HTTPException: refuse_route, Exception: fail},
        lifespan=lifespan,
    )
    routes.router.redirect_slashes = False  # a redirect would name whatever host the client says it called
    return Door(routes, objects, keeper)


def _keeper(launch: Launch, store: Store, vault: Vault) -> Doorkeeper:
    settings = launch.settings
    camera = Camera.of(settings, SecretBox(vault), store.engine, launch.token)
    return Doorkeeper(Authority(), Judge(KeyPolicies(store.engine)), camera, settings.region)


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HearthError)
    return refusal(error, request.scope["path"], request.headers.get("x-request-id", ""))


async def refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        problem: HearthError = BadRequest(f"{request.method} is not a method of {request.scope['path']}.")
        problem.status = 405
    else:
        problem = NotFound(f"There is nothing at {request.scope['path']}.")
    return await refuse(request, problem)


async def fail(request: Request, _error: Exception) -> Response:
    """What nobody foresaw: logged by Starlette with its trace, answered without it."""
    return await refuse(request, HearthError("Something went wrong inside Hearth; the log has it."))

"""The controller's own listener: replicas report here, the door asks here. Loopback or cluster-internal."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server.beat import Beat, Report
from server.control.components import KIND as COMPONENT
from server.controller.audit import Auditor
from server.controller.identities import Identities, read_used
from server.controller.loop import KIND, Controller
from server.controller.meter import measured
from server.controller.rates import Rates
from server.controller.registry import ready
from server.edge.routes import place
from server.errors import HearthError, NotFound, NotReady, Throttled
from server.metrics.series import Point


class Api:
    """Handlers over one `Controller`."""

    def __init__(self, controller: Controller, auditor: Auditor, identities: Identities, rates: Rates) -> None:
        self.controller = controller
        self.auditor = auditor
        self.identities = identities
        self.rates = rates

    async def beats(self, request: Request) -> Response:
        """A replica's beat, what it measured, which calls the audit log is to have, and what it found out about shadow
        variants. The answer says whether requests may still be routed to it, whether the measurements are kept, the
        version of the identities that it must decide by (null: nobody is asked), its share of its account's rates
        (null: not known yet), where copies of requests go (null: nowhere), whether it is a shadow itself, what it
        captures (null: nothing), and which adapters it is to hold (null: not known yet)."""
        try:
            message = await request.json()
            beat = Beat.from_wire(message["beat"])
            points = measured(beat, message["periods"])
            used = read_used(message["keys_used"])
            report = Report.from_wire(message["rates"])
            self.auditor.hear(beat, message["calls"])
            self.controller.shadows.hear(beat, message["shadow"])
        except (TypeError, ValueError, KeyError) as error:
            return JSONResponse({"message": f"not a beat: {error}"}, 400)
        self.controller.registry.hear(beat)
        shares = await self.rates.answer(beat.replica_id, report)
        kept = await self._kept(beat, points) if points else True
        await self.identities.note_used(used)
        routed, version = self.controller.routed(beat.replica_id), await self.identities.version()
        shadows = self.controller.shadows
        shadow, is_shadow = shadows.target(beat, self.controller.registry), shadows.has(beat)
        answer = {"routed": routed, "kept": kept, "identities": version, "rates": shares}
        captures, adapters = self.controller.captures.of(beat), self.controller.adapters(beat)
        answer |= {"shadow": shadow, "is_shadow": is_shadow, "capture": captures, "adapters": adapters}
        return JSONResponse(answer)

    async def snapshot(self, _request: Request) -> Response:
        """All identities, for a replica whose own are not of the version that a beat's answer names."""
        return JSONResponse((await self.identities.snapshot()).to_wire())

    async def _kept(self, beat: Beat, points: Sequence[Point]) -> bool:
        heard = self.controller.registry.within(beat.account).on(beat.component)
        instances = len(ready(heard.of(beat.endpoint, beat.variant)))
        return await self.controller.meter.keep(beat.account, beat.endpoint, points, instances, beat.component)

    async def wake(self, request: Request) -> Response:
        """Waits until an endpoint, or its ``component``, can be routed to, waking it if it sleeps. Bounded by
        ``timeout_s``; ``account`` is its owner's, if that is not this Hearth's own."""
        name, account = request.path_params["endpoint"], request.query_params.get("account", "")
        component = request.query_params.get("component", "")
        where = place(account, name, component)
        timeout_s = min(float(request.query_params["timeout_s"]), self.controller.settings.wake_timeout_s)
        waiting = self.controller.waiting
        if sum(waiting.values()) >= self.controller.settings.wake_queue:
            raise Throttled("Too many requests wait for sleeping endpoints.", retry_after=5)
        waiting[where] = waiting.get(where, 0) + 1
        try:
            await asyncio.wait_for(self._awake(account, name, component), timeout_s)
        except TimeoutError:
            raise NotReady(f"Endpoint {name} did not become ready within {timeout_s:.0f} s.") from None
        finally:
            waiting[where] -= 1
            if not waiting[where]:
                del waiting[where]
        return JSONResponse({"ready": True})

    async def _awake(self, account: str, name: str, component: str) -> None:
        controller = self.controller
        store = controller.store.of(account) if account else controller.store
        kind, asked = (COMPONENT, component) if component else (KIND, name)
        while not controller.has_route(name, account, component):
            resource = await asyncio.to_thread(store.get, kind, asked)
            if resource.status == "Deleting":
                raise NotFound(f"{kind} {asked!r} not found.")
            if resource.status == "Failed":
                raise NotReady(f"{kind} {asked} failed: {resource.reason}", retry_after=60)
            if not component:  # one of those has its copies, or nothing wakes it
                controller.wake(resource)
            async with controller.published:
                try:
                    await asyncio.wait_for(controller.published.wait(), 1.0)
                except TimeoutError:
                    continue

    async def state(self, _request: Request) -> Response:
        """Replicas and waiting requests (by place) of all accounts, for `hearth status` and the metrics."""
        return JSONResponse(
            {
                "replicas": [beat.to_wire() for beat in self.controller.registry.beats()],
                "waiting": self.controller.waiting,
                "settled": self.controller.registry.settled,
            }
        )


def application(
    controller: Controller, auditor: Auditor, identities: Identities, rates: Rates, token: str
) -> ASGIApp:
    api = Api(controller, auditor, identities, rates)
    app = Starlette(
        routes=[
            Route("/beats", api.beats, methods=["POST"]),
            Route("/wake/{endpoint}", api.wake, methods=["POST"]),
            Route("/state", api.state),
            Route("/identities", api.snapshot),
        ],
        exception_handlers={HearthError: _refuse},
    )
    return _Bearer(app, token)


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HearthError)
    body = {"code": error.code, "message": error.message, "retry_after": error.retry_after}
    return JSONResponse(body, error.status)


class _Bearer:
    """Lets through what carries the cluster's token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict[bytes, Any](scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await JSONResponse({"message": "unauthorized"}, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)

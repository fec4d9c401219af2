"""The guard: what every request passes before a dialect sees it, and every answer on its way out.

In order: request id, admission (bounded in-flight count), who claims to call, the body (bounded in size, time and
depth), whether it is them and they may, the bounds on what it asks for, its turn while the engine is full
(`server.guard.admission`), then the application under a deadline, cut off when its client leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from server.audit.sampling import DataCall, Sampled, Who
from server.capture.capturing import Capturing
from server.dialects.documents import PARSED, parse_object, read_body
from server.dialects.errors import error_response, payload_error, stream_failure
from server.dialects.identity import Identity
from server.dialects.outlet import Broken
from server.dialects.paths import OPENAI_PATHS, Kind, Route, route_of
from server.dialects.runtime import JSON_TYPES
from server.errors import HearthError, ModelFailed, RequestTimeout, Throttled, UnsupportedMedia
from server.guard.caching.cache import ResponseCache
from server.guard.exchange import Cut, Exchange
from server.guard.gate import Gate
from server.guard.keeping import kept
from server.guard.limits import check_document, check_model
from server.guard.metrics import Finished, Metrics
from server.guard.rates import OverRate, Rates
from server.guard.shadowing import sealed
from server.guard.turns import Turns
from server.identity.asking import CALLER
from server.shadow.copies import Copying
from server.shadow.seal import Seal
from server.spec import Limits

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
TELL_S = 0.5
"""How long a client may take to be told that its request was cut: one that does not read never will."""

UNGUARDED = (Kind.PING, Kind.METRICS)
INVOCATIONS = (Kind.CONTAINER, Kind.RUNTIME, Kind.STREAM)


class Guard:
    """ASGI middleware around a replica's dialects."""

    def __init__(
        self, app: ASGIApp, identity: Identity, limits: Limits, metrics: Metrics, gate: Gate | None = None,
        *, opaque: bool = False, sampled: Sampled | None = None, capacity: int | None = None,
        rates: Rates | None = None, copying: Copying | None = None, seal: Seal | None = None,
        capturing: Capturing | None = None, cache: ResponseCache | None = None,
    ) -> None:  # fmt: skip
        """`opaque`: bodies of invocations are the model's own matter, so only their size is bounded here. `gate` None:
        nobody is asked who they are. `sampled` takes the calls that the audit log is to have. `capacity`: see
        `Engines.capacity`. `rates`: what the account may have; None: all it likes. `copying` takes the requests for a
        shadow variant, `capturing` those that are kept; copies that reach this replica are known by `seal`. `cache`
        answers what was answered before; None: nothing does."""
        self.in_flight = 0
        """Requests admitted and not finished."""
        self.requests_total = 0
        self._app = app
        self._identity = identity
        self._limits = limits
        self._gate = gate
        self._opaque = opaque
        self._metrics = metrics
        self._sampled = sampled
        self._rates = rates
        self._turns = None if capacity is None else Turns(capacity, limits, metrics, gate)
        self._copying = copying
        self._capturing = capturing
        self._seal = seal
        self._cache = cache
        self._log = structlog.get_logger("access").bind(endpoint=identity.endpoint, variant=identity.variant)
        metrics.watch_in_flight(lambda: float(self.in_flight))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = route_of(scope["path"])
        if route.kind in UNGUARDED:
            await self._app(scope, receive, send)
            return
        scope, request_id = _identified(scope)
        exchange = Exchange(scope, receive, send, route, request_id)
        if self._full() and not self._makes_room(scope):
            busy = Throttled(f"{self.in_flight} requests are in flight, as many as this replica takes; try again")
            await self._refuse(exchange, busy, "busy")
            self._finish(exchange)
            return
        self.in_flight += 1
        self.requests_total += 1
        try:
            await self._answer(exchange)
        finally:
            try:
                exchange.close()
                self._finish(exchange)
            finally:
                self.in_flight -= 1  # last: a replica that ends waits for nothing else

    async def _answer(self, exchange: Exchange) -> None:
        """Answers, or tells why not. A return before the answer is complete makes the server cut the
        connection, so that no client takes half an answer for a whole one."""
        try:
            body = await self._admit(exchange)
            if body is not None and self._cache is not None:
                await self._cache.serve(exchange, body, self._run)
            elif body is not None:
                await self._run(exchange, body)
        except ClientDisconnect:
            exchange.left = True
        except asyncio.CancelledError:
            if exchange.cut is None:
                raise
            exchange.task.uncancel()
        except Broken as error:
            self._log.warning("answer broke off", request_id=exchange.request_id, error=str(error))
        except Exception as error:
            await self._failed(exchange, error)
        if exchange.cut is not None and not exchange.complete:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_S):
                    await self._tell_cut(exchange, exchange.cut)

    async def _run(self, exchange: Exchange, body: bytes) -> None:
        """Has the application answer, once it is the request's turn."""
        turns = self._turns
        turn = None if turns is None else turns.take(exchange, body, over=self.in_flight > self._limits.max_in_flight)
        try:
            if turns is not None and turn is not None and turn.admitted is not None:
                await turns.wait(turn, exchange)
            exchange.allow(self._limits.request_timeout_s, Cut.ANSWER_TIMEOUT)
            exchange.hand_on(body)
            CALLER.set(exchange.caller)
            exchange.kept = kept(self._copying, self._capturing, exchange, body)
            await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            if turns is not None and turn is not None:
                turns.admission.leave(turn)

    def _makes_room(self, scope: Scope) -> bool:
        """Whether a request beyond `max_in_flight` is heard."""
        over = self.in_flight - self._limits.max_in_flight
        return self._turns is not None and self._turns.may_displace(scope, over)

    def _full(self) -> bool:
        """Whether every place is taken."""
        return self.in_flight >= self._limits.max_in_flight

    async def _admit(self, exchange: Exchange) -> bytes | None:
        """The body, checked; None when the request was refused."""
        route, scope, limits = exchange.route, exchange.scope, self._limits
        exchange.allow(limits.body_timeout_s, Cut.BODY_TIMEOUT)
        reason = "identity"
        try:
            exchange.sealed = sealed(self._seal, exchange, self._identity.variant)
            claim = None if self._gate is None or exchange.sealed is not None else self._gate.claim(scope)
            reason = "body"
            body = await read_body(exchange.receive, limits.max_body_bytes)
            reason = "identity"
            if exchange.sealed is not None:
                exchange.sealed.check(body)
            if self._gate is not None and claim is not None:
                exchange.caller = self._gate.admit(claim, route, scope, body)
            if self._rates is not None and exchange.sealed is None and scope["method"] == "POST":
                self._meter(self._rates, exchange)
        except OverRate as error:
            await self._refuse(exchange, error, f"{error.rate} quota")
            return None
        except HearthError as error:
            exchange.sealed = None  # whoever is refused here is counted as a caller
            await self._refuse(exchange, error, reason)
            return None
        try:
            self._check(route, scope, body)
        except HearthError as error:
            self._metrics.refused("bounds")
            await self._answer_failure(exchange, error)
            return None
        return body

    def _meter(self, rates: Rates, exchange: Exchange) -> None:
        """Raises OverRate. OpenAI's clients are told what is left."""
        try:
            rates.admit()
        finally:
            if rates.limited and exchange.route.kind is Kind.OPENAI:
                exchange.extra = rates.headers()

    def _check(self, route: Route, scope: Scope, body: bytes) -> None:
        if not (self._opaque and route.kind in INVOCATIONS):
            check_body(route, scope, body, self._limits, self._identity.names)

    async def _refuse(self, exchange: Exchange, error: HearthError, reason: str) -> None:
        self._metrics.refused(reason)
        response = error_response(error, exchange.route, exchange.request_id)
        await response(exchange.scope, exchange.receive, exchange.emit)

    async def _failed(self, exchange: Exchange, error: Exception) -> None:
        """What a dialect did not turn into an answer; the client learns no more than that it failed."""
        if not isinstance(error, HearthError):
            self._log.error("request failed", request_id=exchange.request_id, exc_info=error)
            error = ModelFailed("the model failed while answering")
        if exchange.status == 0 and exchange.cut is None:
            await self._answer_failure(exchange, error)

    async def _answer_failure(self, exchange: Exchange, error: HearthError) -> None:
        response = payload_error(error, exchange.route, self._identity, exchange.request_id)
        await response(exchange.scope, exchange.receive, exchange.emit)

    async def _tell_cut(self, exchange: Exchange, cut: Cut) -> None:
        """Says why a request was cut, as far as its client can still be told."""
        if cut is Cut.BODY_TIMEOUT:
            slow = RequestTimeout(f"the request body did not arrive within {self._limits.body_timeout_s:g} s")
            await self._refuse(exchange, slow, "body timeout")
        elif cut is Cut.QUEUE_TIMEOUT:
            waited = Throttled(f"its turn did not come within {self._limits.queue_timeout_s:g} s; try again")
            await self._refuse(exchange, waited, "queue timeout")
        elif cut is Cut.ANSWER_TIMEOUT:
            late = ModelFailed(f"the model did not finish within {self._limits.request_timeout_s:g} s")
            if exchange.status == 0:
                await self._answer_failure(exchange, late)
            elif exchange.route.kind is Kind.STREAM and exchange.status == 200:
                frame = stream_failure(late, timed_out=True)
                await exchange.emit({"type": "http.response.body", "body": frame, "more_body": False})

    def _finish(self, exchange: Exchange) -> None:
        """Counts and logs a request that has ended."""
        now = time.perf_counter()
        total = now - exchange.started_at
        model = 0.0 if exchange.model_at is None else now - exchange.model_at
        first = exchange.first_byte_at
        left = exchange.left
        self._metrics.finished(
            Finished(
                status=exchange.status,
                model_s=model,
                overhead_s=total - model,
                first_byte_s=None if first is None else first - exchange.started_at,
                bytes_in=exchange.bytes_in,
                bytes_out=exchange.bytes_out,
                broken=exchange.status != 0 and not left and (not exchange.complete or exchange.cut is not None),
                abandoned=left,
            )
        )
        self._log.info(
            "request",
            request_id=exchange.request_id,
            method=exchange.scope["method"],
            path=exchange.scope["path"][:200],
            status=exchange.status,
            **({} if exchange.caller is None else {"principal": exchange.caller.arn}),
            ms=round(total * 1e3, 3),
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            **({"ended": exchange.cut.value} if exchange.cut else {"ended": Cut.LEFT.value} if left else {}),
        )

        if exchange.sealed is None and self._sampled is not None and self._sampled.draws():
            self._sampled.add(_data_call(exchange, total))
        if exchange.kept is not None:
            exchange.kept.end(exchange, self._copying, model, self.in_flight - 1)


def _data_call(exchange: Exchange, total_s: float) -> DataCall:
    """What the audit log keeps of an inference call: nothing of what was asked or answered."""
    headers: dict[bytes, bytes] = dict(exchange.scope["headers"])
    route = exchange.route
    return DataCall(
        name="InvokeEndpointWithResponseStream" if route.kind is Kind.STREAM else "InvokeEndpoint",
        path=exchange.scope["path"][:200],
        status=exchange.status,
        request_id=exchange.request_id,
        address=headers.get(b"x-forwarded-for", b"").decode("latin-1")[:128],
        user_agent=headers.get(b"user-agent", b"").decode("latin-1")[:256],
        at=time.time(),
        ms=round(total_s * 1e3, 3),
        bytes_in=exchange.bytes_in,
        bytes_out=exchange.bytes_out,
        ended=exchange.cut.value if exchange.cut else Cut.LEFT.value if exchange.left else None,
        who=Who.of(exchange.caller),
    )


def check_body(route: Route, scope: Scope, body: bytes, limits: Limits, names: Sequence[str]) -> None:
    """Parses and bounds a JSON body; the dialect finds what was parsed in the scope. Raises BadRequest."""
    if scope["method"] != "POST" or (route.kind is Kind.OPENAI and route.path not in OPENAI_PATHS):
        return
    media_type = _media_type(scope)
    if route.kind is Kind.OPENAI:
        if media_type != "application/json":
            raise UnsupportedMedia(f"Content-Type {media_type[:100] or 'absent'}: only application/json is taken")
    elif route.kind not in INVOCATIONS or media_type not in JSON_TYPES or body[:64].lstrip()[:1] != b"{":
        return
    document = parse_object(body, limits.max_json_depth)
    scope.setdefault("state", {})[PARSED] = document
    if route.kind is Kind.OPENAI:
        check_model(document, names)
    if "inputs" not in document or route.kind is Kind.OPENAI:
        check_document(document, limits)


def _identified(scope: Scope) -> tuple[Scope, str]:
    """The scope with a request id in its headers: the edge's, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if REQUEST_ID.fullmatch(value):
                return scope, value.decode()
            break
    made = secrets.token_hex(16)
    kept = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
    return {**scope, "headers": [*kept, (b"x-request-id", made.encode())]}, made


def _media_type(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return str(value.decode("latin-1").partition(";")[0].strip().lower())
    return ""

"""The guard's cache: a request that was let in is answered from memory, waits for one like it, or is computed.

Of the same question asked by several at once one is computed; it `leads` and the others `follow`. They do not depend on
the leader's client: when that leaves, one of them leads on. What is not kept (an error, say) each asks for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum

from server.capture.capturing import Capturing
from server.dialects.engine import Engines
from server.dialects.identity import Identity
from server.guard.caching.metrics import CacheMetrics
from server.guard.caching.question import DRAWING, Model, key, repeatable
from server.guard.caching.recording import Recording, headers_for
from server.guard.caching.store import Answer, Store
from server.guard.exchange import Cut, Exchange
from server.guard.keeping import kept
from server.guard.metrics import Metrics
from server.guard.turns import principal_of
from server.spec import Cache, Task, VariantSpec

X_CACHE = b"x-cache"
EXTERNAL: Task = "external"
"""The task of a model that a provider hosts, and its name."""

Run = Callable[[Exchange, bytes], Awaitable[None]]
"""Has the application answer."""


class Unanswered(Enum):
    """Why a leader leaves its followers without an answer."""

    LEFT = "its client left, or it was cut off"
    NOT_KEPT = "what it was answered is kept for nobody"


Outcome = Answer | Unanswered


class ResponseCache:
    """For one event loop."""

    def __init__(
        self, wanted: Cache, model: Model, identity: Identity, metrics: Metrics, capturing: Capturing | None = None
    ) -> None:
        """`capturing` takes hits too."""
        self._wanted = wanted
        self._capturing = capturing
        self._model = model
        self._metrics = CacheMetrics(identity, metrics.periods)
        self._store = Store(
            max_bytes=wanted.max_bytes, max_entries=wanted.max_entries, ttl_s=wanted.ttl_s,
            evicted=self._metrics.evicted,
        )  # fmt: skip
        self._flights: dict[bytes, asyncio.Future[Outcome]] = {}
        self._metrics.watch(lambda: float(len(self._store)), lambda: float(self._store.bytes))

    @classmethod
    def of(
        cls, variant: VariantSpec, engines: Engines, identity: Identity, metrics: Metrics,
        capturing: Capturing | None = None,
    ) -> ResponseCache | None:  # fmt: skip
        """None: the variant asks for none."""
        if variant.cache is None:
            return None
        model = Model(
            opaque=engines.payload is not None,
            generates=engines.text is not None or any(path in engines.openai_routes for path in DRAWING),
            elsewhere=EXTERNAL in (variant.task, variant.model),
            declared=variant.cache.deterministic,
            limits=variant.limits,
        )
        return cls(variant.cache, model, identity, metrics, capturing)

    async def serve(self, exchange: Exchange, body: bytes, run: Run) -> None:
        """Answers a request that was let in. Raises what `run` raises."""
        controls = _controls(exchange)
        asks = exchange.sealed is None and "no-store" not in controls
        if not asks or not repeatable(self._model, exchange.route, exchange.scope, body):
            self._say(exchange, "bypass")
            await run(exchange, body)
            return
        asked = key(exchange.scope, body, self._keeper(exchange))
        if "no-cache" in controls:
            await self._lead(asked, exchange, body, run)
            return
        if found := self._store.get(asked):
            await self._replay(found, "hit", exchange, body)
            return
        while flight := self._flights.get(asked):
            outcome = await self._follow(flight, exchange)
            if isinstance(outcome, Answer):
                await self._replay(outcome, "joined", exchange, body)
                return
            if outcome is Unanswered.NOT_KEPT:
                break
        await self._lead(asked, exchange, body, run)

    async def _lead(self, asked: bytes, exchange: Exchange, body: bytes, run: Run) -> None:
        flight: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._flights.setdefault(asked, flight)

        def whole(answer: Answer | None) -> None:
            if answer is not None:
                self._store.put(asked, answer)
            flight.set_result(answer or Unanswered.NOT_KEPT)
            self._landed(asked, flight)

        self._say(exchange, "miss")
        exchange.recording = Recording(self._wanted.max_entry_bytes, whole)
        try:
            await run(exchange, body)
        finally:
            exchange.recording = None
            if not flight.done():
                gone = exchange.left or exchange.cut is Cut.LEFT
                flight.set_result(Unanswered.LEFT if gone else Unanswered.NOT_KEPT)
            self._landed(asked, flight)

    async def _follow(self, flight: asyncio.Future[Outcome], exchange: Exchange) -> Outcome:
        exchange.allow(self._model.limits.request_timeout_s, Cut.ANSWER_TIMEOUT)
        exchange.watch()
        return await asyncio.shield(flight)

    async def _replay(self, answer: Answer, result: str, exchange: Exchange, body: bytes) -> None:
        self._say(exchange, result)
        exchange.allow(self._model.limits.request_timeout_s, Cut.ANSWER_TIMEOUT)
        exchange.bytes_in = len(body)
        exchange.kept = kept(None, self._capturing, exchange, body)
        headers = headers_for(answer, exchange.request_id)
        await exchange.emit({"type": "http.response.start", "status": 200, "headers": headers})
        await exchange.emit({"type": "http.response.body", "body": answer.body, "more_body": False})

    def _say(self, exchange: Exchange, result: str) -> None:
        self._metrics.counted(result)
        shown = "hit" if result == "joined" else result
        exchange.extra = [*exchange.extra, (X_CACHE, shown.encode())]

    def _landed(self, asked: bytes, flight: asyncio.Future[Outcome]) -> None:
        if self._flights.get(asked) is flight:
            del self._flights[asked]

    def _keeper(self, exchange: Exchange) -> tuple[str, ...]:
        """Whom an answer is kept for: an account, or one of its principals."""
        account = "" if exchange.caller is None else exchange.caller.account
        return (account,) if self._wanted.shared_by == "account" else (account, principal_of(exchange.caller))


def _controls(exchange: Exchange) -> str:
    """The client's Cache-Control, in lower case."""
    values = (value for name, value in exchange.scope["headers"] if name == b"cache-control")
    return b",".join(values).decode("latin-1").lower()

"""The guard's side of `Admission`: what a request's turn costs, how long it waits, and who gives up a place.

Places are bounded (`max_in_flight`), those to wait in with those to run in. When all are taken, a principal that has
fewer than another is heard all the same: once it has proven who it is, it takes the place of the newest request that
the other has waiting, or, where none waits, one of a few more. So a flood cannot keep others out.
"""

from __future__ import annotations

import time

from starlette.types import Scope

from server.dialects.paths import OPENAI_PATHS, Kind, Route
from server.errors import HearthError, Throttled
from server.guard import weight
from server.guard.admission import Admission, Turn
from server.guard.exchange import Cut, Exchange
from server.guard.gate import Gate
from server.guard.metrics import Metrics
from server.identity.caller import Caller
from server.identity.principal import Principal
from server.spec import Limits

OVER = 8
"""There are as many places beyond `max_in_flight` as an eighth of it, for those who have fewer than others."""
_OPENAI = Kind.OPENAI


class Turns:
    def __init__(self, capacity: int, limits: Limits, metrics: Metrics, gate: Gate | None) -> None:
        """`gate` None: nobody is asked who they are, so all are one principal."""
        self.admission = Admission(capacity)
        self._limits = limits
        self._metrics = metrics
        self._gate = gate
        self._most_over = max(1, limits.max_in_flight // OVER)
        metrics.watch_queue(lambda: float(self.admission.waiting))

    def take(self, exchange: Exchange, body: bytes, *, over: bool) -> Turn | None:
        """The request's turn, which may be to `wait` for and is to be given back (`Admission.leave`). None: it needs
        none. `over`: all places were taken. Raises Throttled when none is due to it."""
        if not occupies(exchange.route, exchange.scope):
            return None
        principal = principal_of(exchange.caller)
        if over and not self.admission.make_room(principal) and not self.admission.is_due_to(principal):
            self._metrics.refused("busy")
            raise Throttled(f"{self._limits.max_in_flight} requests are in flight, as many as this replica takes")
        answers = weight.answers(exchange.scope)
        return self.admission.enter(principal, answers, weight.cost(answers, body))

    async def wait(self, turn: Turn, exchange: Exchange) -> None:
        """Returns when the turn has come. Raises Throttled when its place was due to another principal."""
        begun = time.perf_counter()
        exchange.allow(self._limits.queue_timeout_s, Cut.QUEUE_TIMEOUT)
        exchange.watch()
        try:
            await self.admission.wait(turn)
        except Throttled:
            self._metrics.refused("displaced")
            raise
        self._metrics.had_waited(time.perf_counter() - begun)

    def may_displace(self, scope: Scope, over: int) -> bool:
        """Whether a request is heard that finds all places taken, and `over` others beyond them: by what it says of
        itself its principal has fewer than another."""
        if self._gate is None or over >= self._most_over:
            return False
        principal = _claimed(self._gate, scope)
        return principal is not None and self.admission.is_due_to(principal)


def occupies(route: Route, scope: Scope) -> bool:
    """Whether a request takes a place in the engine."""
    if route.kind is _OPENAI:
        return route.path in OPENAI_PATHS and weight.occupies(route.path, scope["method"])
    return bool(scope["method"] == "POST")


def principal_of(caller: Principal | None) -> str:
    """Whom a request's turn belongs to: a user, a role whatever its session is called, or an account's root."""
    if caller is None:
        return ""
    return caller.holder if isinstance(caller, Caller) else caller.id


def _claimed(gate: Gate, scope: Scope) -> str | None:
    """Whom a request says that it is from; None where that cannot be, or nobody is asked."""
    try:
        claim = gate.claim(scope)
        if claim is None:
            return None
        if claim.caller is None:
            assert claim.signed is not None
            return principal_of(gate.authority.caller(claim.signed.access_key))
        return principal_of(claim.caller)
    except HearthError:
        return None

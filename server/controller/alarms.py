"""Looks at every alarm's metric and notes what state that puts it in. Who acts on alarms reads the state."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.errors import NotFound, Unavailable
from server.metrics.alarm import Rule, State, evaluate, reason
from server.metrics.series import MetricStore
from server.store.alarms import KIND, changed, last_rung
from server.store.store import Resource, Store, everywhere

log = structlog.get_logger(__name__)

LOOK_S = 10.0


def rung(store: Store, endpoints: Iterable[Resource], now: float) -> dict[tuple[str, str], float]:
    """When the alarms that rollouts of one account watch, by region and name, were in ALARM last, in seconds since
    1970."""
    wanted = {
        (endpoint.region, name)
        for endpoint in endpoints
        if (pending := endpoint.document.get("pending")) is not None
        for name in pending["strategy"]["alarms"]
    }
    found = {}
    for region, name in wanted:
        with contextlib.suppress(NotFound):  # deleted meanwhile: there is nothing to watch any more
            if (last := last_rung(store.within(region).get(KIND, name), now)) is not None:
                found[region, name] = last
    return found


class Alarms:
    """Watches the alarms of all accounts and regions."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def watch_forever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.look)
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("alarms not looked at", error=type(error).__name__)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Evaluates every alarm once."""
        for alarm in everywhere(self._store, KIND):
            store = self._store.of(alarm.account)
            state, why = self._evaluate(store, alarm)
            if state is not None and state != alarm.status and changed(store, alarm, state, why):
                log.info("alarm", arn=alarm.arn, was=alarm.status, now=state, why=why)

    def _evaluate(self, store: Store, alarm: Resource) -> tuple[State | None, str]:
        rule = Rule.of(alarm.document)
        window = rule.window(self._clock())
        points = alarm_points(store, alarm, rule, window)
        state = evaluate(rule, points)
        return state, "" if state is None else reason(rule, points, state)


def alarm_points(store: Store, alarm: Resource, rule: Rule, window: range) -> list[float | None]:
    """What an alarm's metric was in each period of `window`; None where it has no values."""
    document = alarm.document
    dimensions = {each["Name"]: each["Value"] for each in document.get("Dimensions", ())}
    metrics = MetricStore(store.engine, store.account, alarm.region)
    return metrics.points(
        document["Namespace"], document["MetricName"], dimensions, document.get("Unit"), window, rule.statistic
    )

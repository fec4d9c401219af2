"""Carries out scheduled actions: each of their times once, whatever process is killed meanwhile.

An action's row keeps the moment up to which its times were seen to (`cursor`). Other bounds for the target, the
activity that tells of them and the new cursor are one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from server.control.autoscaling.schedules import scheduled
from server.store.scaling import ACTION, TARGET, Key, belonging, record
from server.store.store import Resource, Store

log = structlog.get_logger(__name__)


class Timetable:
    """Remembers how far it has looked, so that a rare time is not searched for anew from the cursor each time."""

    def __init__(self) -> None:
        self._looked: dict[tuple[int, int], float] = {}

    def carry_out(self, store: Store, target: Resource, now: float) -> None:
        """Does what is due for `target`, the earliest first; of several missed times of one action the newest."""
        due = []
        key = Key.of(target.document)
        for action in belonging(store, ACTION, key):
            moment = self._due(action, now)
            if moment is not None:
                due.append((moment, action))
        for moment, action in sorted(due, key=lambda each: each[0]):
            _carry_out(store, store.get(TARGET, target.name), key, action, moment, now)

    def _due(self, action: Resource, now: float) -> float | None:
        document, place = action.document, (action.id, action.generation)
        cursor = max(float((action.observation or {}).get("cursor", document["Since"])), self._looked.get(place, 0.0))
        begin = max(cursor, document.get("StartTime", 0.0) - 1e-3)
        until = min(now, document.get("EndTime", now))
        found = scheduled(document).latest(datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(until, UTC))
        if found is None:
            self._looked[place] = now
            return None
        return found.timestamp()


def _carry_out(store: Store, target: Resource, key: Key, action: Resource, moment: float, now: float) -> None:
    """Raises Conflict when target or action were changed meanwhile; the action is then still due."""
    name, given = action.document["ScheduledActionName"], action.document["ScalableTargetAction"]
    log.info("scheduled action", resource=key.resource_id, name=name, due=moment, bounds=given)
    with store.transaction() as together:
        # A new generation, so that of two who carry it out one is refused.
        seen = together.replace(action, action.document, action.status)
        together.observe(seen, {"cursor": now})
        if target.document["SuspendedState"]["ScheduledScalingSuspended"]:
            return
        cause = f"scheduled action name {name} was triggered"
        words = " and ".join(f"{word} capacity to {given[member]}" for member, word in _MEMBERS if member in given)
        problem = _problem({**target.document, **given})
        status = "Failed" if problem else "Successful"
        message = problem or f"Successfully set {words}"
        record(together, key, f"Setting {words}", cause, status, now, StatusMessage=message)
        if problem is None:
            together.replace(target, {**target.document, **given}, target.status)


_MEMBERS = (("MinCapacity", "min"), ("MaxCapacity", "max"))


def _problem(document: Mapping[str, Any]) -> str | None:
    if document["MaxCapacity"] < document["MinCapacity"]:
        low, high = document["MinCapacity"], document["MaxCapacity"]
        return f"Maximum capacity cannot be less than minimum capacity: {high} is less than {low}."
    return None

"""Scheduled actions: other bounds for a target at a time. The controller's scaler carries them out."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

from server.control.autoscaling.listed import bad, chosen, key, missing, page, target
from server.control.autoscaling.service import AUTOSCALING
from server.control.autoscaling.targets import check_range
from server.control.operations import Answer, Context, Request
from server.errors import Conflict, NotFound, Refusal
from server.metrics.schedule import Once, Schedule, Wrong, parse
from server.store.scaling import ACTION, Key, belonging
from server.store.store import Resource, Store

MAX_ACTIONS = 200
KEPT = ("Schedule", "Timezone", "ScalableTargetAction")
"""What an action keeps when it is put again without it; StartTime and EndTime go."""


@AUTOSCALING.operation
def put_scheduled_action(context: Context, request: Request) -> Answer:
    """A new action, or other members of one that is there. What was due before now stays undone."""
    found = key(request)
    target(context, found)
    now = time.time()
    with context.store.transaction() as store:
        name = request["ScheduledActionName"]
        before = _get(store, found, name)
        old = before.document if before else {}
        document = {
            **{member: old[member] for member in KEPT if member in old}, **request, **found.members,
            "Id": old.get("Id", str(uuid.uuid4())), "Since": now,
        }  # fmt: skip
        _check(document, now)
        try:
            if before is not None:
                kept = store.replace(before, document, before.status)
            else:
                kept = _new(context, store, found, document)
        except Conflict as error:
            raise Refusal("ConcurrentUpdateException", error.message) from None
        store.observe(kept, {"cursor": now})
    return {}


def _new(context: Context, store: Store, found: Key, document: dict[str, Any]) -> Resource:
    if len(belonging(store, ACTION, found)) >= MAX_ACTIONS:
        raise Refusal("LimitExceededException", f"A scalable target has at most {MAX_ACTIONS} scheduled actions.")
    name = document["ScheduledActionName"]
    arn = f"arn:aws:autoscaling:{context.region}:{context.account}:scheduledAction:{document['Id']}:"
    arn += f"resource/{found.namespace}/{found.resource_id}:scheduledActionName/{name}"
    return store.create(ACTION, found.row_name(name), document, "Active", arn=arn, facets={"target": found.facet})


def _check(document: dict[str, Any], now: float) -> None:
    if "Schedule" not in document:
        raise bad("Schedule is required to create a scheduled action.", "Schedule")
    try:
        schedule = scheduled(document)
    except Wrong as error:
        raise bad(f"Invalid schedule expression: {error}.", "Schedule") from None
    begin, end = document.get("StartTime"), document.get("EndTime")
    if begin is not None and end is not None and begin >= end:
        raise bad("StartTime must be before EndTime.", "StartTime")
    if end is not None and end <= now:
        raise bad("EndTime must be in the future.", "EndTime")
    if isinstance(schedule, Once) and schedule.moment.timestamp() <= now:
        raise bad("Schedule: the time of an at expression must be in the future.", "Schedule")
    action = document.get("ScalableTargetAction") or {}
    if not action:
        raise bad("ScalableTargetAction needs a MinCapacity, a MaxCapacity or both.", "ScalableTargetAction")
    low = action.get("MinCapacity", 0)
    check_range(low, action.get("MaxCapacity", low))


def scheduled(document: Any) -> Schedule:
    """The schedule of an action's document. Raises Wrong."""
    begin = document.get("StartTime")
    start = datetime.fromtimestamp(begin, UTC) if begin is not None else None
    return parse(document["Schedule"], document.get("Timezone"), datetime.fromtimestamp(document["Since"], UTC), start)


@AUTOSCALING.operation
def describe_scheduled_actions(context: Context, request: Request) -> Answer:
    found = chosen(context, ACTION, request, "ScheduledActionNames", "ScheduledActionName")
    return page("DescribeScheduledActions", request, found, _view, "ScheduledActions")


def _view(each: Resource) -> dict[str, Any]:
    return {**each.document, "ScheduledActionARN": each.arn, "CreationTime": each.created_at}


@AUTOSCALING.operation
def delete_scheduled_action(context: Context, request: Request) -> Answer:
    found = key(request)
    name = request["ScheduledActionName"]
    with context.store.transaction() as store:
        action = _get(store, found, name)
        if action is None:
            raise missing("scheduled action found", found, f"scheduled action name: {name}")
        try:
            store.remove(action)
        except Conflict as error:
            raise Refusal("ConcurrentUpdateException", error.message) from None
    return {}


def _get(store: Store, found: Key, name: str) -> Resource | None:
    try:
        return store.get(ACTION, found.row_name(name))
    except NotFound:
        return None

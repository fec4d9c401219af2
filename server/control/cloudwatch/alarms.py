"""CloudWatch's alarms on metrics: kept here, watched by the controller (`server.controller.alarms`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from server.control import paging
from server.control.cloudwatch.service import CLOUDWATCH
from server.control.kind import tag_map
from server.control.operations import Answer, Context, Request
from server.errors import BadRequest, Conflict, NotFound, Refusal
from server.metrics.alarm import COMPARE
from server.metrics.series import percentile
from server.store import tags
from server.store.alarms import KIND, changed, history, with_history
from server.store.listing import Query, page
from server.store.store import Resource

NOT_HERE = (
    "Metrics", "ThresholdMetricId", "EvaluationWindow", "WarmUpConfiguration", "EvaluationCriteria",
    "ActionConfiguration", "EvaluationInterval",
)  # fmt: skip
"""Members of newer or computed alarms, which are refused."""
MOST_SECONDS = 7 * 86400
MAX_ALARMS = 5000


@CLOUDWATCH.operation
def put_metric_alarm(context: Context, request: Request) -> Answer:
    """A new alarm, which knows nothing yet, or another rule for one that is there and keeps its state."""
    _check(request)
    name = request["AlarmName"]
    document = {member: value for member, value in request.items() if member not in ("AlarmName", "Tags")}
    item = f'Alarm "{name}"'
    with context.store.transaction() as store:
        try:
            current = store.get(KIND, name)
        except NotFound:
            first = history({}, "ConfigurationUpdate", f"{item} created", {"type": "Create"})
            if len(store.find(KIND)) >= MAX_ALARMS:
                raise Refusal("LimitExceededFault", f"There are {MAX_ALARMS} alarms already.") from None
            made = store.create(KIND, name, document, "INSUFFICIENT_DATA", arn=_arn(context, name))
            store.observe(made, first)
            tags.add(store, made, tag_map(request.get("Tags", ())))
            return {}
        replaced = store.replace(current, document, current.status)
        store.observe(replaced, with_history(current, "ConfigurationUpdate", f"{item} updated", {"type": "Update"}))
    return {}


def _check(request: Request) -> None:
    for member in NOT_HERE:
        if member in request:
            raise _bad(f"{member}: Hearth has alarms on one metric and a fixed threshold only.", member)
    for member in ("Namespace", "MetricName", "Period", "EvaluationPeriods", "Threshold", "ComparisonOperator"):
        if member not in request:
            raise Refusal("MissingParameter", f"The parameter {member} is required.", field=member)
    if request["ComparisonOperator"] not in COMPARE:
        raise _bad("ComparisonOperator: those over bands belong to anomaly detection.", "ComparisonOperator")
    if ("Statistic" in request) == ("ExtendedStatistic" in request):
        raise _bad("One of Statistic and ExtendedStatistic must be given.", "Statistic")
    if "ExtendedStatistic" in request and percentile(request["ExtendedStatistic"]) is None:
        raise _bad("ExtendedStatistic must be a percentile such as p99.", "ExtendedStatistic")
    period, periods = request["Period"], request["EvaluationPeriods"]
    if period not in (10, 20, 30) and period % 60:
        raise _bad("Period must be 10, 20, 30 or a multiple of 60.", "Period")
    if period * periods > MOST_SECONDS:
        raise _bad(f"EvaluationPeriods times Period must be at most {MOST_SECONDS} seconds.", "EvaluationPeriods")
    if not 0 < request.get("DatapointsToAlarm", periods) <= periods:
        raise _bad("DatapointsToAlarm must be from 1 to EvaluationPeriods.", "DatapointsToAlarm")
    if request.get("TreatMissingData", "missing") not in ("missing", "ignore", "breaching", "notBreaching"):
        raise _bad("TreatMissingData must be missing, ignore, breaching or notBreaching.", "TreatMissingData")


@CLOUDWATCH.operation
def describe_alarms(context: Context, request: Request) -> Answer:
    names, kinds = request.get("AlarmNames"), request.get("AlarmTypes", ["MetricAlarm"])
    if names and "AlarmNamePrefix" in request:
        raise Refusal("InvalidParameterCombination", "AlarmNames and AlarmNamePrefix exclude each other.")
    if "MetricAlarm" not in kinds or {"ChildrenOfAlarmName", "ParentsOfAlarmName"} & set(request):
        return {"MetricAlarms": [], "CompositeAlarms": []}
    if names:
        found = [each for name in names if (each := _get(context, name)) is not None and _wanted(each, request)]
        return {"MetricAlarms": [_shown(each) for each in found], "CompositeAlarms": []}
    listed, token = _page(context, request)
    return {"MetricAlarms": [_shown(each) for each in listed], "CompositeAlarms": [], "NextToken": token}


def _page(context: Context, request: Request) -> tuple[list[Resource], str | None]:
    """By name; a page is filled across those that a filter leaves out."""
    size = request.get("MaxRecords", 50)
    purpose = paging.purpose("DescribeAlarms", request.get("AlarmNamePrefix"), request.get("StateValue"))
    token = request.get("NextToken")
    try:
        after = paging.decode(token, purpose) if token else None
    except BadRequest as error:
        raise Refusal("InvalidNextToken", error.message) from None
    statuses = (request["StateValue"],) if "StateValue" in request else ()
    query = Query(KIND, statuses=statuses, order="name", contains=request.get("AlarmNamePrefix"))
    found: list[Resource] = []
    while True:
        here = page(context.store, query, size, after)
        found += [each for each in here.resources if _wanted(each, request)]
        after = here.next
        if after is None or len(found) >= size:
            return found[:size], paging.encode(after, purpose) if after is not None else None


def _wanted(alarm: Resource, request: Request) -> bool:
    actions = [arn for member in ("OKActions", "AlarmActions", "InsufficientDataActions")
               for arn in alarm.document.get(member, ())]  # fmt: skip
    prefix = request.get("ActionPrefix")
    return (
        alarm.name.startswith(request.get("AlarmNamePrefix", ""))
        and request.get("StateValue") in (None, alarm.status)
        and (prefix is None or any(arn.startswith(prefix) for arn in actions))
    )


@CLOUDWATCH.operation
def describe_alarms_for_metric(context: Context, request: Request) -> Answer:
    given = [name for name in ("Statistic", "ExtendedStatistic", "Period", "Unit") if name in request]
    same = ("Namespace", "MetricName", *given)
    found = [
        each for each in context.store.find(KIND)
        if all(each.document.get(name) == request[name] for name in same) and _key(each.document) == _key(request)
    ]  # fmt: skip
    return {"MetricAlarms": [_shown(each) for each in found]}


@CLOUDWATCH.operation
def delete_alarms(context: Context, request: Request) -> Answer:
    """Those that are there; a name that is not is passed over, as on AWS."""
    with context.store.transaction() as store:
        for name in request["AlarmNames"]:
            try:
                store.remove(store.get(KIND, name))
            except NotFound:
                continue
    return {}


@CLOUDWATCH.operation
def set_alarm_state(context: Context, request: Request) -> Answer:
    """Until the next look at its metric."""
    data = request.get("StateReasonData")
    if data is not None:
        try:
            json.loads(data)
        except ValueError:
            raise Refusal("InvalidFormatFault", "StateReasonData must be JSON.", field="StateReasonData") from None
    alarm = _get(context, request["AlarmName"])
    if alarm is None:
        raise Refusal("ResourceNotFound", f"Alarm {request['AlarmName']!r} does not exist.", field="AlarmName")
    if alarm.status != request["StateValue"]:
        changed(context.store, alarm, request["StateValue"], request["StateReason"], data)
    return {}


@CLOUDWATCH.operation
def enable_alarm_actions(context: Context, request: Request) -> Answer:
    return _switch(context, request, True)


@CLOUDWATCH.operation
def disable_alarm_actions(context: Context, request: Request) -> Answer:
    return _switch(context, request, False)


def _switch(context: Context, request: Request, enabled: bool) -> Answer:
    for name in request["AlarmNames"]:
        alarm = _get(context, name)
        if alarm is not None and alarm.document.get("ActionsEnabled", True) != enabled:
            document = {**alarm.document, "ActionsEnabled": enabled}
            try:
                replaced = context.store.replace(alarm, document, alarm.status)
            except Conflict as error:
                raise Refusal("ConcurrentModificationException", error.message, status=429) from None
            context.store.observe(replaced, alarm.observation or {})
    return {}


@CLOUDWATCH.operation
def describe_alarm_history(context: Context, request: Request) -> Answer:
    """The newest hundred items of each alarm."""
    names = request.get("AlarmName")
    alarms = [found for found in [_get(context, names)] if found] if names else context.store.find(KIND)
    items = [
        {"AlarmName": alarm.name, "AlarmType": "MetricAlarm", **item, "Timestamp": item["Timestamp"]}
        for alarm in alarms
        for item in (alarm.observation or {}).get("History", ())
    ]
    wanted = [
        item for item in items
        if request.get("HistoryItemType") in (None, item["HistoryItemType"])
        and request.get("StartDate", 0) <= item["Timestamp"] <= request.get("EndDate", 2**53)
    ]  # fmt: skip
    wanted.sort(key=lambda item: item["Timestamp"], reverse=request.get("ScanBy") != "TimestampAscending")
    token = request.get("NextToken", "0")
    if not (token.isascii() and token.isdigit() and len(token) < 10):
        raise Refusal("InvalidNextToken", "NextToken: use the one that the page before returned.")
    begin, end = int(token), int(token) + request.get("MaxRecords", 100)
    return {"AlarmHistoryItems": wanted[begin:end], "NextToken": str(end) if end < len(wanted) else None}


def _get(context: Context, name: str) -> Resource | None:
    try:
        return context.store.get(KIND, name)
    except NotFound:
        return None


def _arn(context: Context, name: str) -> str:
    return f"arn:aws:cloudwatch:{context.region}:{context.account}:alarm:{name}"


def _key(document: Mapping[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in document.get("Dimensions", ())}


def _shown(alarm: Resource) -> dict[str, Any]:
    seen = alarm.observation or {}
    since = seen.get("StateUpdatedTimestamp", alarm.created_at.timestamp())
    return {
        "ActionsEnabled": True, "OKActions": [], "AlarmActions": [], "InsufficientDataActions": [], "Dimensions": [],
        **alarm.document,
        "AlarmName": alarm.name, "AlarmArn": alarm.arn, "StateValue": alarm.status,
        "StateReason": seen.get("StateReason", "Unchecked: Initial alarm creation"),
        "StateReasonData": seen.get("StateReasonData"),
        "StateUpdatedTimestamp": datetime.fromtimestamp(since, UTC),
        "StateTransitionedTimestamp": datetime.fromtimestamp(since, UTC),
        "AlarmConfigurationUpdatedTimestamp": datetime.fromtimestamp(seen.get("Configured", since), UTC),
    }  # fmt: skip


def _bad(message: str, field: str) -> Refusal:
    return Refusal("InvalidParameterValue", message, field=field)

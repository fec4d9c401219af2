"""CloudWatch's metrics: what replicas measured, under SageMaker's names, and what callers put in themselves."""

from __future__ import annotations

import base64
import json
import math
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from server.control.cloudwatch.service import CLOUDWATCH
from server.control.operations import Answer, Context, Request
from server.errors import Refusal
from server.metrics.distribution import Distribution
from server.metrics.series import MetricStore, Point, Series, percentile, statistic

MAX_QUERIES = 500
MAX_DATAPOINTS = 100_800
MAX_STATISTICS_POINTS = 1440
MAX_DATA = 1000
MAX_VALUES = 150
LISTED = 500
"""Series on a page of ListMetrics."""
RECENT_S = 3 * 3600
OLDEST_S, NEWEST_S = 14 * 86400, 2 * 3600
"""How far from now a datum's time may be."""
_STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")


def metrics(context: Context) -> MetricStore:
    return MetricStore(context.store.engine, context.account, context.region)


@CLOUDWATCH.operation
def list_metrics(context: Context, request: Request) -> Answer:
    wanted = {each["Name"]: each.get("Value") for each in request.get("Dimensions", ())}
    since = int(time.time()) - RECENT_S if request.get("RecentlyActive") else 0
    after = _decoded(request.get("NextToken"), "InvalidParameterValueException")
    found = metrics(context).series(
        request.get("Namespace"), request.get("MetricName"), wanted, since=since, after=after, limit=LISTED + 1
    )
    return {
        "Metrics": [{"Namespace": each.namespace, "MetricName": each.name, "Dimensions": _dimensions(each.dimensions)}
                    for each in found[:LISTED]],
        "NextToken": _encoded(found[LISTED - 1].id) if len(found) > LISTED else None,
    }  # fmt: skip


@CLOUDWATCH.operation
def get_metric_data(context: Context, request: Request) -> Answer:
    """Values by query. What does not fit into one answer comes with the next token."""
    queries = request["MetricDataQueries"]
    ids = [query["Id"] for query in queries]
    if len(queries) > MAX_QUERIES:
        raise _bad(f"MetricDataQueries: at most {MAX_QUERIES} queries, not {len(queries)}.", "MetricDataQueries")
    if len(set(ids)) != len(ids):
        raise _bad("MetricDataQueries: each Id must be used once.", "MetricDataQueries")
    if request["StartTime"] >= request["EndTime"]:
        raise _bad("The parameter StartTime must be less than the parameter EndTime.", "StartTime")
    most = request.get("MaxDatapoints", MAX_DATAPOINTS)
    if not 0 < most <= MAX_DATAPOINTS:
        raise _bad(f"MaxDatapoints must be from 1 to {MAX_DATAPOINTS}.", "MaxDatapoints")
    newest_first = request.get("ScanBy") != "TimestampAscending"
    skip = _decoded(request.get("NextToken"), "InvalidNextToken")
    results, left, passed = [], most, 0
    for query in queries:
        if query.get("ReturnData", True):
            values = sorted(_values(context, query, request), reverse=newest_first)
            page = values[max(0, skip - passed) :][:left]
            cut = passed + len(values) > skip + most
            results.append(_result(query, page, "PartialData" if cut else "Complete"))
            passed += len(values)
            left -= len(page)
    return {"MetricDataResults": results, "Messages": [],
            "NextToken": _encoded(skip + most) if passed > skip + most else None}  # fmt: skip


def _result(query: Mapping[str, Any], values: list[tuple[int, float]], status: str) -> dict[str, Any]:
    return {
        "Id": query["Id"], "Label": query.get("Label") or query["MetricStat"]["Metric"].get("MetricName"),
        "Timestamps": [_moment(start) for start, _ in values], "Values": [value for _, value in values],
        "StatusCode": status,
    }  # fmt: skip


def _values(context: Context, query: Mapping[str, Any], request: Request) -> Iterator[tuple[int, float]]:
    asked = query.get("MetricStat")
    if asked is None or "Expression" in query:
        raise _bad(f"Query {query['Id']}: Hearth has no metric math; each query needs a MetricStat and no Expression.",
                   "MetricDataQueries")  # fmt: skip
    metric = asked["Metric"]
    if not metric.get("Namespace") or not metric.get("MetricName"):
        raise _bad(f"Query {query['Id']}: a metric needs a Namespace and a MetricName.", "MetricDataQueries")
    if asked["Stat"] not in _STATISTICS and percentile(asked["Stat"]) is None:
        known = f"{', '.join(_STATISTICS)} and pNN"
        raise _bad(f"Query {query['Id']}: Stat {asked['Stat']!r} is none of {known}.", "MetricDataQueries")
    found = _read(context, metric["Namespace"], metric["MetricName"], metric, request, asked["Period"])
    for start, values in found[1].items():
        value = statistic(values, asked["Stat"])
        if value is not None:
            yield start, value


@CLOUDWATCH.operation
def get_metric_statistics(context: Context, request: Request) -> Answer:
    """All statistics asked for, of each period that has any values."""
    plain, extended = request.get("Statistics", ()), request.get("ExtendedStatistics", ())
    if not plain and not extended:
        missing = "At least one of the parameters Statistics and ExtendedStatistics must be specified."
        raise Refusal("MissingRequiredParameterException", missing)
    for name in extended:
        if percentile(name) is None:
            raise _bad(f"ExtendedStatistics: {name!r} is no percentile such as p99.9.", "ExtendedStatistics")
    start, end, period = request["StartTime"], request["EndTime"], request["Period"]
    if start >= end:
        raise _bad("The parameter StartTime must be less than the parameter EndTime.", "StartTime")
    if (end - start) / period > MAX_STATISTICS_POINTS:
        many = f"You have requested up to {math.ceil((end - start) / period)} datapoints, which exceeds the limit of"
        hint = f"{MAX_STATISTICS_POINTS}. Reduce them by a longer Period or a shorter time range."
        raise Refusal("InvalidParameterCombinationException", f"{many} {hint}")
    series, found = _read(context, request["Namespace"], request["MetricName"], request, request, period)
    unit = series.unit if series is not None else "None"
    if request.get("Unit") not in (None, unit):
        found = {}
    return {
        "Label": request["MetricName"],
        "Datapoints": [
            {
                "Timestamp": _moment(at), "Unit": unit,
                **{name: statistic(values, name) for name in plain},
                "ExtendedStatistics": _present({name: statistic(values, name) for name in extended}) or None,
            }
            for at, values in found.items()
        ],
    }  # fmt: skip


def _read(
    context: Context, namespace: str, name: str, metric: Mapping[str, Any], request: Request, period: int
) -> tuple[Series | None, Mapping[int, Distribution]]:
    if period not in (1, 5, 10, 20, 30) and period % 60:
        raise _bad("Period must be 1, 5, 10, 20, 30 or a multiple of 60.", "Period")
    store = metrics(context)
    series = store.one(namespace, name, {each["Name"]: each["Value"] for each in metric.get("Dimensions", ())})
    if series is None:
        return None, {}
    begin = int(request["StartTime"]) // period * period
    return series, store.read(series, begin, math.ceil(request["EndTime"]), period)


@CLOUDWATCH.operation
def put_metric_data(context: Context, request: Request) -> Answer:
    """All of it or nothing."""
    namespace = request["Namespace"]
    if namespace.startswith("AWS/"):
        raise _bad("Namespace: those that begin with AWS/ are the services' own.", "Namespace")
    if request.get("EntityMetricData"):
        raise _bad("EntityMetricData: Hearth keeps no entities; send MetricData.", "EntityMetricData")
    data = request.get("MetricData", ())
    if not 0 < len(data) <= MAX_DATA:
        raise _bad(f"MetricData must have 1 to {MAX_DATA} members, not {len(data)}.", "MetricData")
    source = secrets.token_hex(8)
    metrics(context).add([_point(namespace, datum, f"put-{source}-{n}") for n, datum in enumerate(data)])
    return {}


def _point(namespace: str, datum: Mapping[str, Any], source: str) -> Point:
    now = time.time()
    moment = datum.get("Timestamp", now)
    if not now - OLDEST_S <= moment <= now + NEWEST_S:
        raise _bad("Timestamp must be from two weeks before now to two hours after.", "Timestamp")
    seconds = 1 if datum.get("StorageResolution") == 1 else 60
    names = [each["Name"] for each in datum.get("Dimensions", ())]
    if len(set(names)) != len(names):
        raise _bad("Dimensions: each Name must be used once.", "Dimensions")
    return Point(
        namespace, datum["MetricName"], {each["Name"]: each["Value"] for each in datum.get("Dimensions", ())},
        datum.get("Unit", "None"), int(moment) // seconds * seconds, seconds, source, _distribution(datum),
    )  # fmt: skip


def _distribution(datum: Mapping[str, Any]) -> Distribution:
    given = [name for name in ("Value", "Values", "StatisticValues") if name in datum]
    if len(given) != 1:
        raise Refusal("InvalidParameterCombinationException",
                      f"{datum['MetricName']} needs one of Value, Values and StatisticValues.")  # fmt: skip
    if given == ["StatisticValues"]:
        sums = datum["StatisticValues"]
        if not (sums["SampleCount"] > 0 and sums["Minimum"] <= sums["Maximum"]):
            raise _bad("StatisticValues: SampleCount must be above 0, Minimum not above Maximum.", "StatisticValues")
        return Distribution.summary(sums["SampleCount"], sums["Sum"], sums["Minimum"], sums["Maximum"])
    values = datum.get("Values") or [datum.get("Value")]
    counts = datum.get("Counts") or [1.0] * len(values)
    if values == [None] or len(values) > MAX_VALUES or len(counts) != len(values) or min(counts) <= 0:
        raise _bad(f"Values: 1 to {MAX_VALUES} of them, and as many positive Counts if any.", "Values")
    if max(map(abs, values)) >= 2.0**360:
        raise _bad("Values must be between -2^360 and 2^360.", "Values")
    made = Distribution()
    for value, count in zip(values, counts, strict=True):
        made.add(value, count)
    return made


def _dimensions(found: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in found.items()]


def _present(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _encoded(number: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([number]).encode()).decode()


def _decoded(token: str | None, code: str) -> int:
    if token is None:
        return 0
    try:
        (number,) = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, TypeError):
        number = None
    if not isinstance(number, int) or not 0 <= number < 2**53:
        raise Refusal(code, "NextToken: use the one that the page before returned.", field="NextToken")
    return number


def _bad(message: str, field: str) -> Refusal:
    return Refusal("InvalidParameterValueException", message, field=field)

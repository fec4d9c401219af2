"""Metrics in the store, as CloudWatch has them: a series is a name with dimensions in a namespace.

A point is the distribution of a stretch of time from one source. Points are only ever added; reading merges
them, and `roll_up` makes fewer of them as they age, on CloudWatch's own schedule.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from server.metrics.distribution import Distribution
from server.store.tables import MetricPointRow, MetricSeriesRow

Dimensions = Mapping[str, str]

AGES: tuple[tuple[int, int, int], ...] = ((1, 3 * 3600, 60), (60, 15 * 86400, 300), (300, 63 * 86400, 3600))
"""Points of at least this many seconds, once older than that, become ones of so many seconds."""
KEEP_S = 455 * 86400
BATCH = 2000
"""Points that one transaction rolls up."""


@dataclass(frozen=True, slots=True)
class Series:
    id: int
    namespace: str
    name: str
    dimensions: Dimensions
    unit: str
    last: int
    """Seconds since 1970 of its newest point."""


@dataclass(frozen=True, slots=True)
class Point:
    """`start` in seconds since 1970, `seconds` long. `source` makes it one of a kind: sent twice, it counts once."""

    namespace: str
    name: str
    dimensions: Dimensions
    unit: str
    start: int
    seconds: int
    source: str
    values: Distribution


class MetricStore:
    """The metrics of one account in one region."""

    def __init__(self, engine: Engine, account: str, region: str) -> None:
        self._engine = engine
        self._account = account
        self._region = region

    def add(self, points: Iterable[Point]) -> None:
        """One transaction."""
        with Session(self._engine) as session, session.begin():
            ids: dict[tuple[str, str, str], int] = {}
            for point in points:
                key = (point.namespace, point.name, _canonical(point.dimensions))
                if key not in ids:
                    ids[key] = self._series(session, point, key[2])
                values = {
                    "series_id": ids[key], "start": point.start, "seconds": point.seconds, "source": point.source,
                    "data": json.dumps(point.values.to_wire()),
                }  # fmt: skip
                session.execute(_once(session, MetricPointRow).values(**values).on_conflict_do_nothing())

    def _series(self, session: Session, point: Point, dimensions: str) -> int:
        where = (
            MetricSeriesRow.account == self._account, MetricSeriesRow.region == self._region,
            MetricSeriesRow.namespace == point.namespace, MetricSeriesRow.name == point.name,
            MetricSeriesRow.dimensions == dimensions,
        )  # fmt: skip
        row = session.scalar(select(MetricSeriesRow).where(*where))
        if row is None:
            made = {
                "account": self._account, "region": self._region, "namespace": point.namespace, "name": point.name,
                "dimensions": dimensions, "unit": point.unit, "last": point.start,
            }  # fmt: skip
            session.execute(_once(session, MetricSeriesRow).values(**made).on_conflict_do_nothing())
            row = session.scalars(select(MetricSeriesRow).where(*where)).one()
        row.last = max(row.last, point.start)
        return row.id

    def series(
        self, namespace: str | None = None, name: str | None = None, dimensions: Mapping[str, str | None] | None = None,
        *, since: int = 0, after: int = 0, limit: int | None = None,
    ) -> list[Series]:  # fmt: skip
        """Series that have all of `dimensions` (None: whatever the value), by id, from behind `after`."""
        query = select(MetricSeriesRow).where(
            MetricSeriesRow.account == self._account, MetricSeriesRow.region == self._region,
            MetricSeriesRow.last >= since, MetricSeriesRow.id > after,
        )  # fmt: skip
        if namespace is not None:
            query = query.where(MetricSeriesRow.namespace == namespace)
        if name is not None:
            query = query.where(MetricSeriesRow.name == name)
        found: list[Series] = []
        with Session(self._engine) as session:
            for row in session.scalars(query.order_by(MetricSeriesRow.id)):
                series = _series(row)
                if _has(series.dimensions, dimensions or {}):
                    found.append(series)
                if len(found) == limit:
                    break
        return found

    def one(self, namespace: str, name: str, dimensions: Dimensions) -> Series | None:
        """The series with exactly these dimensions."""
        query = select(MetricSeriesRow).where(
            MetricSeriesRow.account == self._account, MetricSeriesRow.region == self._region,
            MetricSeriesRow.namespace == namespace, MetricSeriesRow.name == name,
            MetricSeriesRow.dimensions == _canonical(dimensions),
        )  # fmt: skip
        with Session(self._engine) as session:
            row = session.scalar(query)
            return None if row is None else _series(row)

    def read(self, series: Series, start: int, end: int, period: int) -> dict[int, Distribution]:
        """The distributions of the periods from `start` to before `end` that have any values, by their start."""
        query = (
            select(MetricPointRow.start, MetricPointRow.data)
            .where(MetricPointRow.series_id == series.id, MetricPointRow.start >= start, MetricPointRow.start < end)
            .order_by(MetricPointRow.start)
        )
        found: dict[int, Distribution] = {}
        with Session(self._engine) as session:
            for moment, data in session.execute(query):
                at = moment // period * period
                if at not in found:
                    found[at] = Distribution()
                found[at].merge(Distribution.from_wire(json.loads(data)))
        return found


    def points(
        self, namespace: str, name: str, dimensions: Dimensions, unit: str | None, window: range, statistic_name: str
    ) -> list[float | None]:
        """A statistic of a metric for each period that begins in `window`, whose step is the period's length."""
        series = self.one(namespace, name, dimensions)
        if series is None or unit not in (None, series.unit):
            return [None] * len(window)
        found = self.read(series, window.start, window.stop, window.step)
        return [statistic(found[start], statistic_name) if start in found else None for start in window]


def roll_up(engine: Engine, now: float) -> int:
    """Merges what has aged and forgets what is too old, one bounded transaction at a time; gives how many points
    went."""
    went = 0
    for least, age, seconds in AGES:
        while step := _roll_up(engine, least, int(now - age), seconds):
            went += step
    with Session(engine) as session, session.begin():
        gone: Any = session.execute(delete(MetricPointRow).where(MetricPointRow.start < now - KEEP_S))
        session.execute(delete(MetricSeriesRow).where(MetricSeriesRow.last < now - KEEP_S))
    return went + int(gone.rowcount)


def _roll_up(engine: Engine, least: int, before: int, seconds: int) -> int:
    """One series' oldest stretch, in whole new periods."""
    aged = MetricPointRow.seconds >= least, MetricPointRow.seconds < seconds
    with Session(engine) as session, session.begin():
        first = session.execute(
            select(MetricPointRow.series_id, MetricPointRow.start)
            .where(*aged, MetricPointRow.start < before // seconds * seconds)
            .limit(1)
        ).first()
        if first is None:
            return 0
        begin = first.start // seconds * seconds
        end = min(begin + seconds * max(1, BATCH * 10 // seconds), before // seconds * seconds)
        where = (
            MetricPointRow.series_id == first.series_id, *aged,
            MetricPointRow.start >= begin, MetricPointRow.start < end,
        )  # fmt: skip
        taken = delete(MetricPointRow).where(*where).returning(MetricPointRow.start, MetricPointRow.data)
        rows = session.execute(taken).all()
        merged: dict[int, Distribution] = {}
        for start, data in rows:
            at = start // seconds * seconds
            merged.setdefault(at, Distribution()).merge(Distribution.from_wire(json.loads(data)))
        source = f"rolled-{secrets.token_hex(8)}"
        session.execute(
            insert(MetricPointRow),
            [
                {"series_id": first.series_id, "start": at, "seconds": seconds, "source": source,
                 "data": json.dumps(values.to_wire())}
                for at, values in merged.items()
            ],
        )  # fmt: skip
        return len(rows)


def _once(session: Session, table: Any) -> Any:
    """An INSERT that can be told to pass over what is there."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def _canonical(dimensions: Dimensions) -> str:
    return json.dumps(dict(sorted(dimensions.items())), ensure_ascii=False, separators=(",", ":"))


def _series(row: MetricSeriesRow) -> Series:
    return Series(row.id, row.namespace, row.name, json.loads(row.dimensions), row.unit, row.last)


def _has(dimensions: Dimensions, wanted: Mapping[str, str | None]) -> bool:
    return all(name in dimensions and value in (None, dimensions[name]) for name, value in wanted.items())


def statistic(values: Distribution, name: str) -> float | None:
    """`Sum`, `Average`, `SampleCount`, `Minimum`, `Maximum` or a percentile such as `p99.9`.

    None where the distribution has none. Raises KeyError for another name.
    """
    if name in _PLAIN:
        return float(_PLAIN[name](values))
    share = percentile(name)
    if share is None:
        raise KeyError(name)
    found = values.percentile(share)
    return None if math.isnan(found) else found


def percentile(name: str) -> float | None:
    """The share that `p99` or `p99.9` names; None for another name."""
    digits = name[1:]
    if name[:1] != "p" or not digits.replace(".", "", 1).isdigit() or not digits.isascii():
        return None
    share = float(digits) / 100
    return share if 0 <= share <= 1 else None


_PLAIN: Mapping[str, Any] = {
    "Sum": lambda values: values.total,
    "Average": lambda values: values.average,
    "SampleCount": lambda values: values.count,
    "Minimum": lambda values: values.minimum,
    "Maximum": lambda values: values.maximum,
}

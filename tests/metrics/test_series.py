"""Series and points in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from server.metrics.distribution import Distribution
from server.metrics.series import KEEP_S, MetricStore, Point, roll_up
from server.store.migrate import migrate
from server.store.store import connect
from server.store.tables import MetricPointRow

NOW = 1_800_000_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = connect(f"sqlite:///{tmp_path / 'hearth.db'}")
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> MetricStore:
    return MetricStore(engine, "123456789012", "us-east-1")


def point(start: int, *values: float, source: str = "r1", endpoint: str = "e", seconds: int = 10) -> Point:
    dimensions = {"EndpointName": endpoint, "VariantName": "v"}
    return Point("AWS/SageMaker", "ModelLatency", dimensions, "Microseconds", start, seconds, source,
                 Distribution.of(values))  # fmt: skip


def points(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(MetricPointRow)) or 0


def test_a_period_has_the_values_of_all_replicas(store: MetricStore) -> None:
    store.add([point(NOW, 1, 2), point(NOW, 3, source="r2"), point(NOW + 10, 10), point(NOW + 60, 100)])
    (series,) = store.series("AWS/SageMaker", "ModelLatency", {"EndpointName": "e"})
    found = store.read(series, NOW, NOW + 120, 60)
    assert {at: (each.count, each.total) for at, each in found.items()} == {NOW: (4, 16), NOW + 60: (1, 100)}
    assert store.one("AWS/SageMaker", "ModelLatency", {"VariantName": "v", "EndpointName": "e"}) == series
    assert store.one("AWS/SageMaker", "ModelLatency", {"EndpointName": "e"}) is None


def test_what_is_sent_twice_counts_once(store: MetricStore) -> None:
    store.add([point(NOW, 1)])
    store.add([point(NOW, 1)])
    (series,) = store.series()
    assert store.read(series, NOW, NOW + 10, 10)[NOW].count == 1


def test_regions_and_accounts_have_their_own(store: MetricStore, engine: Engine) -> None:
    store.add([point(NOW, 1)])
    assert MetricStore(engine, "123456789012", "eu-west-1").series() == []
    assert MetricStore(engine, "210987654321", "us-east-1").series() == []


def test_age_makes_fewer_points_of_the_same_values(store: MetricStore, engine: Engine) -> None:
    for source in ("r1", "r2"):
        store.add([point(NOW - 86400 + 10 * n, float(n), source=source) for n in range(1000)])
    store.add([point(NOW - 10, 5)])
    (series,) = store.series()
    before = store.read(series, NOW - 86400, NOW, 300)
    assert roll_up(engine, NOW) == 2000
    after = store.read(series, NOW - 86400, NOW, 300)
    assert {at: each.to_wire() for at, each in before.items()} == {at: each.to_wire() for at, each in after.items()}
    assert points(engine) == 168, "167 minutes, and one point that is too young"
    store.add([point(NOW - 86400, 7, source="late")])
    roll_up(engine, NOW)
    assert store.read(series, NOW - 86400, NOW, 300)[NOW - 86400].count == before[NOW - 86400].count + 1
    roll_up(engine, NOW + 64 * 86400)
    assert points(engine) < 10
    roll_up(engine, NOW + KEEP_S + 86400)
    assert (points(engine), store.series()) == (0, [])

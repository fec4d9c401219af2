"""A database that is gone or held: one error that is safe to retry, within a bound, and nothing half written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, make_url

from server.errors import Conflict, NotFound, Unavailable
from server.store import store as stores
from server.store.listing import Query, page
from server.store.migrate import migrate
from server.store.store import Store, connect

ACCOUNT, REGION = "123456789012", "us-east-1"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stores, "LOCK_S", 0.2)
    return tmp_path / "hearth.db"


@pytest.fixture
def store(file: Path) -> Store:
    engine = connect(f"sqlite:///{file}")
    migrate(engine)
    return Store(engine, ACCOUNT, REGION)


def cut(store: Store) -> Callable[[], None]:
    """Loses the connection at every statement, until what this gives is called."""

    def lose(connection: Any, *_: Any) -> None:
        connection.connection.dbapi_connection.close()

    event.listen(store.engine, "before_cursor_execute", lose)
    return lambda: event.remove(store.engine, "before_cursor_execute", lose)


def test_a_held_database_is_unavailable_within_its_bound(store: Store, file: Path) -> None:
    made = store.create("Model", "one", {"v": 1}, "Active")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="database is locked"):
        store.replace(made, {"v": 2}, "Active")
    assert store.get("Model", "one").document == {"v": 1}
    other.execute("ROLLBACK")
    other.close()
    assert store.replace(made, {"v": 2}, "Active").document == {"v": 2}


def test_a_lost_connection_is_unavailable_and_the_next_one_works(store: Store) -> None:
    made = store.create("Model", "one", {}, "Active")
    mend = cut(store)
    for call in (
        lambda: store.get("Model", "one"),
        lambda: store.find("Model"),
        lambda: store.by_arn(made.arn),
        lambda: page(store, Query("Model"), 10),
        lambda: store.create("Model", "two", {}, "Active"),
        lambda: store.replace(made, {}, "Active"),
        lambda: store.report(made, "Failed"),
        lambda: store.observe(made, {}),
        lambda: store.count(made),
        lambda: store.remove(made),
    ):
        with pytest.raises(Unavailable, match="The store does not answer"):
            call()
    mend()
    assert [found.name for found in store.find("Model")] == ["one"]


def test_a_transaction_that_loses_its_connection_leaves_nothing(store: Store) -> None:
    def two() -> None:
        with store.transaction() as unit:
            unit.create("Model", "one", {}, "Active")
            mends.append(cut(store))
            unit.create("Model", "two", {}, "Active")

    mends: list[Callable[[], None]] = []
    with pytest.raises(Unavailable):
        two()
    mends[0]()
    assert store.find("Model") == []


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/nowhere/hearth.db")
    with pytest.raises(Unavailable, match="unable to open"):
        Store(engine, ACCOUNT, REGION).find("Model")
    with pytest.raises(Unavailable, match="unable to open"):
        migrate(engine)


def test_other_refusals_stay_what_they_are(store: Store) -> None:
    store.create("Model", "one", {}, "Active")
    with pytest.raises(Conflict):
        store.create("Model", "one", {}, "Active")
    with pytest.raises(NotFound):
        store.get("Model", "two")


def test_postgresql_gets_bounds_that_its_address_does_not_name() -> None:
    bounds = stores._bounded(make_url("postgresql+psycopg://h/d?connect_timeout=1"))
    assert "connect_timeout" not in bounds
    assert "lock_timeout=10s" in bounds["options"]

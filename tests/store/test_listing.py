"""Pages come from an index, whatever the order: nothing is sorted or looked through for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from server.store.listing import Order, Position, Query, page
from server.store.migrate import migrate
from server.store.store import Store, connect

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    file: Path = tmp_path_factory.mktemp("listing") / "hearth.db"
    engine = connect(f"sqlite:///{file}")
    migrate(engine)
    made = Store(engine, "123456789012", "us-east-1")
    for number in range(6):
        made.create("Thing", f"t-{number}", {}, "Active", facets={"group": "a" if number % 2 else "b"})
    yield made
    engine.dispose()


def plan(store: Store, query: Query, after: Position | None = None) -> str:
    """How SQLite goes about a page."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        asked.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    page(store, query, 2, after)
    event.remove(store.engine, "before_cursor_execute", note)
    statement, parameters = asked[-1]
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    ("order", "value"), [("name", "t-1"), ("created", MOMENT), ("modified", MOMENT), ("status", "Active")]
)
def test_every_order_has_an_index(store: Store, order: Order, value: Any, descending: bool) -> None:
    for after in (None, Position(value, 3)):
        found = plan(store, Query("Thing", order=order, descending=descending), after)
        assert "USING INDEX" in found
        assert "TEMP B-TREE" not in found


def test_a_filter_has_one_too(store: Store) -> None:
    found = plan(store, Query("Thing", facets={"group": "a"}))
    assert "ix_facets_key" in found
    assert "TEMP B-TREE" not in found
    by_status = plan(store, Query("Thing", statuses=("Active",)))
    assert "ix_resources_status" in by_status
    assert "TEMP B-TREE" not in by_status


def test_pages_by_a_filter_cover_everything_once(store: Store) -> None:
    for descending in (False, True):
        query = Query("Thing", facets={"group": "a"}, descending=descending)
        first = page(store, query, 2)
        second = page(store, query, 2, first.next)
        names = [resource.name for resource in (*first.resources, *second.resources)]
        assert sorted(names, reverse=descending) == names == sorted({"t-1", "t-3", "t-5"}, reverse=descending)
        assert second.next is None

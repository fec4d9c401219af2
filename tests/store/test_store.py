"""The store keeps what was acknowledged, refuses what would overwrite it, and migrates to its own tables."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from server.errors import Conflict, NotFound
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.store.tables import Base

ACCOUNT, REGION = "123456789012", "us-east-1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    engine = connect(f"sqlite:///{tmp_path / 'hearth.db'}")
    migrate(engine)
    return Store(engine, ACCOUNT, REGION)


def test_migrations_make_exactly_the_tables(store: Store) -> None:
    migrate(store.engine)
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_resource_reads_back_as_written(store: Store) -> None:
    made = store.create("Endpoint", "Mine", {"a": [1, {"b": None}]}, "Creating")
    assert store.get("Endpoint", "Mine") == made
    assert made.arn == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/mine"
    assert made.created_at.tzinfo is not None


def test_names_are_unique_per_kind_account_and_region(store: Store) -> None:
    store.create("Endpoint", "one", {}, "Creating")
    with pytest.raises(Conflict, match="already exists"):
        store.create("Endpoint", "one", {}, "Creating")
    store.create("Model", "one", {}, "Creating")
    Store(store.engine, "999999999999", REGION).create("Endpoint", "one", {}, "Creating")
    assert [r.name for r in store.find("Endpoint")] == ["one"]


def test_a_report_on_an_older_generation_is_refused(store: Store) -> None:
    old = store.create("Endpoint", "one", {"v": 1}, "Creating")
    new = store.replace(old, {"v": 2}, "Updating")
    assert not store.report(old, "InService")
    assert store.get("Endpoint", "one").status == "Updating"
    assert store.report(new, "InService")
    assert store.get("Endpoint", "one").observed == new.generation


def test_two_writers_cannot_both_replace(store: Store) -> None:
    old = store.create("Endpoint", "one", {"v": 1}, "Creating")
    store.replace(old, {"v": 2}, "Updating")
    with pytest.raises(Conflict, match="changed by someone else"):
        store.replace(old, {"v": 3}, "Updating")
    with pytest.raises(Conflict):
        store.remove(old)
    assert store.get("Endpoint", "one").document == {"v": 2}


def test_a_removed_resource_is_gone(store: Store) -> None:
    store.remove(store.create("Endpoint", "one", {}, "Creating"))
    with pytest.raises(NotFound):
        store.get("Endpoint", "one")


_WRITER = """
import sys
from server.store.migrate import migrate
from server.store.store import Store, connect
engine = connect(sys.argv[1])
migrate(engine)
store = Store(engine, "123456789012", "us-east-1")
for number in range(100000):
    store.create("Endpoint", f"e{number}", {}, "Creating")
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hearth.db'}"
    with subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        acknowledged += [int(line) for line in writer.stdout.read().split()]
    names = {r.name for r in Store(connect(url), ACCOUNT, REGION).find("Endpoint")}
    assert {f"e{number}" for number in acknowledged} <= names


def test_an_older_database_is_brought_along(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'old.db'}")
    migrate(engine, "0001")
    rows = [
        ("us-east-1", "one", "one", "2026-01-01"),
        ("eu-west-1", "one", "one", "2026-01-02"),
        ("eu-west-1", "two", "two", "2026-01-01"),
        ("eu-west-1", "TWO", "two", "2026-01-01"),
    ]
    with engine.begin() as connection:
        for region, name, path, moment in rows:
            connection.execute(
                text(
                    "INSERT INTO resources (account, region, kind, name, arn, document, generation, observed, status, "
                    "created_at, modified_at) VALUES (:account, :region, 'Endpoint', :name, :arn, '{}', 1, 1, "
                    "'InService', :moment, :moment)"
                ),
                {
                    "account": ACCOUNT, "region": region, "name": name, "moment": f"{moment} 00:00:00",
                    "arn": f"arn:aws:sagemaker:{region}:{ACCOUNT}:endpoint/{path}",
                },
            )  # fmt: skip
    migrate(engine)
    store = Store(engine, ACCOUNT, REGION)
    assert {(r.region, r.name, r.arn.rpartition("/")[2]) for r in store.find("Endpoint")} == {
        ("eu-west-1", "one", "one"),
        ("eu-west-1", "two", "two"),
        ("eu-west-1", "TWO", "TWO"),
    }
    assert store.replace(store.get("Endpoint", "one"), {"v": 2}, "Updating").observation is None
    engine.dispose()


def test_a_region_sees_its_own_and_the_whole_sees_all(store: Store) -> None:
    west = store.within("eu-west-1")
    assert west.create("Model", "m", {}, "Active").region == "eu-west-1"
    with pytest.raises(NotFound):
        store.within(REGION).get("Model", "m")
    assert store.get("Model", "m") == west.get("Model", "m")
    store.create("Endpoint", "e", {}, "Creating")
    with pytest.raises(Conflict):
        west.create("Endpoint", "e", {}, "Creating")


def test_a_transaction_is_undone_whole(store: Store) -> None:
    made = store.create("Model", "m", {}, "Active")

    def fail() -> None:
        with store.transaction() as unit:
            unit.create("Model", "other", {}, "Active")
            unit.remove(made)
            unit.remove(made)

    with pytest.raises(Conflict):
        fail()
    assert [r.name for r in store.find("Model")] == ["m"]


def test_an_observation_asks_for_nothing(store: Store) -> None:
    made = store.create("Endpoint", "e", {}, "Creating")
    store.observe(made, {"replicas": 1})
    found = store.get("Endpoint", "e")
    assert (found.observation, found.generation, found.modified_at) == ({"replicas": 1}, 1, made.modified_at)


def test_counting_never_gives_a_number_twice(store: Store) -> None:
    group = store.create("Group", "g", {}, "Completed")
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda _: store.count(group), range(40)))
    assert sorted(numbers) == list(range(1, 41))
    store.remove(group)
    with pytest.raises(NotFound):
        store.count(group)

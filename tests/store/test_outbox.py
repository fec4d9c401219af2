"""Events come with the changes they tell of, in the order of commits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete

from server.errors import Conflict
from server.store import outbox
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.store.tables import EventRow

ACCOUNT, REGION = "123456789012", "us-east-1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    engine = connect(f"sqlite:///{tmp_path / 'hearth.db'}")
    migrate(engine)
    yield Store(engine, ACCOUNT, REGION)
    engine.dispose()


def page(store: Store, after: int = 0, most: int = 1000) -> list[outbox.Event]:
    with store.session() as session:
        return outbox.page(session, store.account, after, most)


def test_every_change_is_told_with_the_resource_after_it(store: Store) -> None:
    made = store.create("Endpoint", "One", {"v": 1}, "Creating", tags={"team": "a"})
    assert store.report(made, "InService")
    assert store.report(store.get("Endpoint", "One"), "InService"), "no change, so no event"
    store.observe(made, {"replicas": 1})
    changed = store.replace(store.get("Endpoint", "One"), {"v": 2}, "Updating")
    assert store.report(changed, "Failed", "no such model")
    store.remove(store.get("Endpoint", "One"))
    seen = [(e.change, e.status, e.reason, e.document, e.tags) for e in page(store)]
    tags = {"team": "a"}
    assert seen == [
        ("created", "Creating", None, {"v": 1}, tags),
        ("reported", "InService", None, {"v": 1}, tags),
        ("changed", "Updating", None, {"v": 2}, tags),
        ("reported", "Failed", "no such model", {"v": 2}, tags),
        ("removed", "Failed", "no such model", {"v": 2}, tags),
    ]
    first = page(store)[0]
    assert (first.kind, first.name, first.arn, first.region) == ("Endpoint", "One", made.arn, REGION)
    assert (first.created_at, first.at >= first.created_at) == (made.created_at, True)
    assert len({event.uuid for event in page(store)}) == 5


def test_other_kinds_are_not_told(store: Store) -> None:
    made = store.create("AccessKey", "AKIA", {"secret": "s"}, "Active")
    store.remove(made)
    assert page(store) == []


def test_what_did_not_happen_is_not_told(store: Store) -> None:
    made = store.create("Model", "m", {}, "Active")
    with pytest.raises(Conflict):
        store.create("Model", "m", {}, "Active")
    store.replace(made, {"v": 2}, "Active")
    for refused in (store.remove, lambda old: store.replace(old, {"v": 3}, "Active")):
        with pytest.raises(Conflict):
            refused(made)
    assert not store.report(made, "Failed")

    def undone() -> None:
        with store.transaction() as unit:
            unit.create("Model", "n", {}, "Active")
            raise LookupError

    with pytest.raises(LookupError):
        undone()
    assert [(event.name, event.change) for event in page(store)] == [("m", "created"), ("m", "changed")]


def test_a_reader_that_follows_misses_nothing_of_many_writers(store: Store) -> None:
    """Ids must not become visible out of order: who has read 8 would never see a 7 that commits later."""
    writers, each = 6, 15
    seen: list[int] = []

    def write(writer: int) -> None:
        for number in range(each):
            store.create("Model", f"m-{writer}-{number}", {}, "Active")

    with ThreadPoolExecutor(writers) as pool:
        done = [pool.submit(write, writer) for writer in range(writers)]
        while True:
            finished = all(future.done() for future in done)
            found = page(store, seen[-1] if seen else 0)
            seen += [event.id for event in found]
            if finished and not found:
                break
    for future in done:
        future.result()
    assert len(seen) == writers * each


def test_only_the_newest_are_kept_and_no_id_comes_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEPT", 10)
    monkeypatch.setattr(outbox, "PRUNED_EVERY", 5)
    for number in range(25):
        store.create("Model", f"m{number}", {}, "Active")
    found = page(store)
    assert [event.name for event in found] == [f"m{number}" for number in range(15, 25)]
    with store.session() as session:
        assert outbox.before(session, ACCOUNT, 0) == found[-1].id
        assert outbox.before(session, ACCOUNT, 3) == found[-4].id
        assert outbox.before(session, ACCOUNT, 1000) == 0
        session.execute(delete(EventRow))
    store.create("Model", "after", {}, "Active")
    assert page(store)[0].id > found[-1].id


def test_pages(store: Store) -> None:
    for number in range(5):
        store.create("Model", f"m{number}", {}, "Active")
    Store(store.engine, "999999999999", REGION).create("Model", "theirs", {}, "Active")
    first = page(store, most=2)
    second = page(store, first[-1].id, 10)
    assert [event.name for event in [*first, *second]] == [f"m{number}" for number in range(5)]


def test_a_position_is_kept(store: Store) -> None:
    with store.session() as session:
        assert outbox.position(session, ACCOUNT, "journal") is None
        outbox.done(session, ACCOUNT, "journal", 3)
    with store.session() as session:
        outbox.done(session, ACCOUNT, "journal", 4)
        assert outbox.position(session, ACCOUNT, "journal") == 4
        assert outbox.position(session, ACCOUNT, "other") is None

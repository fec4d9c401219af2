"""Subscribers hear of every event, in order, also after a failure or a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.controller import feed
from server.controller.feed import Feed
from server.store import outbox
from server.store.migrate import migrate
from server.store.outbox import Event
from server.store.store import Store, connect


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(feed, "LOOK_S", 0.01)
    monkeypatch.setattr(feed, "RETRY_S", 0.01)
    engine = connect(f"sqlite:///{tmp_path / 'hearth.db'}")
    migrate(engine)
    yield Store(engine, "123456789012", "us-east-1")
    engine.dispose()


class Recording:
    """Notes names; `spoil` may raise or wait first."""

    def __init__(self, name: str = "recording", spoil: Callable[[Event], Any] = lambda _: None) -> None:
        self.name = name
        self.told: list[str] = []
        self.spoil = spoil

    async def handle(self, event: Event) -> None:
        waited = self.spoil(event)
        if waited is not None:
            await waited
        self.told.append(event.name)


@asynccontextmanager
async def running(store: Store, *subscribers: Recording) -> Any:
    task = asyncio.create_task(Feed(store, subscribers).run())
    try:
        await until(lambda: all(known(store, each.name) for each in subscribers))
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def known(store: Store, name: str) -> bool:
    with store.session() as session:
        return outbox.position(session, store.account, name) is not None


def dealt_with(store: Store, name: str) -> bool:
    """Whether the newest event is behind a subscriber."""
    with store.session() as session:
        return outbox.position(session, store.account, name) == outbox.before(session, store.account, 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0.01)


def made(store: Store, *names: str) -> None:
    for name in names:
        store.create("Model", name, {}, "Active")


async def test_a_new_subscriber_hears_what_comes_and_a_restarted_one_goes_on(store: Store) -> None:
    made(store, "before")
    first = Recording()
    async with running(store, first):
        made(store, "a", "b")
        await until(lambda: first.told == ["a", "b"])
        await until(lambda: dealt_with(store, first.name))  # else it would hear the last one again
    made(store, "c")
    again = Recording()
    async with running(store, again):
        made(store, "d")
        await until(lambda: again.told == ["c", "d"])


async def test_what_failed_is_told_again_and_holds_up_nobody_else(store: Store) -> None:
    failures = iter([RuntimeError("not yet"), RuntimeError("nor now")])

    def spoil(event: Event) -> None:
        if event.name == "b" and (error := next(failures, None)):
            raise error

    failing, other = Recording("failing", spoil), Recording("other")
    async with running(store, failing, other):
        made(store, "a", "b", "c")
        await until(lambda: failing.told == ["a", "b", "c"])
        await until(lambda: other.told == ["a", "b", "c"])


async def test_one_that_hangs_is_cut_and_told_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "HANDLE_S", 1.0)
    hangs = iter([60.0])
    hanging = Recording("hanging", lambda _: asyncio.sleep(next(hangs, 0.0)))
    async with running(store, hanging):
        made(store, "a", "b")
        await until(lambda: hanging.told == ["a", "b"])


async def test_one_that_was_cut_in_the_middle_hears_the_event_again(store: Store) -> None:
    """As after kill -9: the position is kept only once an event is dealt with."""
    reached = asyncio.Event()

    async def never() -> None:
        reached.set()
        await asyncio.sleep(60)

    cut = Recording(spoil=lambda event: never() if event.name == "b" else None)
    async with running(store, cut):
        made(store, "a", "b")
        await asyncio.wait_for(reached.wait(), 60)
    again = Recording()
    async with running(store, again):
        await until(lambda: again.told == ["b"])


async def test_more_than_a_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAGE", 3)
    many = Recording()
    async with running(store, many):
        names = [f"m{number}" for number in range(10)]
        made(store, *names)
        await until(lambda: many.told == names)

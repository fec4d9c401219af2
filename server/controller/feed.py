"""Follows the events for those in this process who act on them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog
from sqlalchemy.orm import Session

from server.errors import Unavailable
from server.identity.accounts import Accounts
from server.store import outbox
from server.store.outbox import Event
from server.store.store import Store

log = structlog.get_logger(__name__)

LOOK_S = 1.0
PAGE = 100
RETRY_S = 1.0
"""Pause after a first failure; doubles with each."""
MAX_RETRY_S = 60.0
HANDLE_S = 60.0
"""Time that one event may take."""


class Subscriber(Protocol):
    """Is told of each event, in order, at least once: again after a crash or when it raised. It begins with what
    happens after it was first known; where it is, is kept in the store under its name."""

    @property
    def name(self) -> str: ...

    async def handle(self, event: Event) -> None:
        """Returns when the event needs to be told no more."""
        ...


class Feed:
    """Tells subscribers, each at its own pace: one that fails or hangs holds up no other."""

    def __init__(self, store: Store, subscribers: Sequence[Subscriber]) -> None:
        self._store = store
        self._subscribers = subscribers

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for subscriber in self._subscribers:
                tasks.create_task(self._serve(subscriber), name=f"events for {subscriber.name}")

    async def _serve(self, subscriber: Subscriber) -> None:
        failures = 0
        while True:
            try:
                more = await self._step(subscriber)
                failures = 0
            except Unavailable as error:
                log.warning("events wait for the store", subscriber=subscriber.name, error=error.message)
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                failures += 1
                log.error("events are held up", subscriber=subscriber.name, failures=failures, exc_info=error)
                await asyncio.sleep(min(MAX_RETRY_S, RETRY_S * 2 ** (failures - 1)))
            else:
                if not more:
                    await asyncio.sleep(LOOK_S)

    async def _step(self, subscriber: Subscriber) -> bool:
        """Tells what is new in each account; whether there may be more."""
        pages = await asyncio.to_thread(self._news, subscriber.name)
        for event in (event for page in pages for event in page):
            async with asyncio.timeout(HANDLE_S):
                await subscriber.handle(event)
            await asyncio.to_thread(self._done, subscriber.name, event)
        return any(len(page) == PAGE for page in pages)

    def _news(self, name: str) -> list[list[Event]]:
        own, *others = Accounts(self._store, self._store.account).active()
        with self._store.session() as session:
            known = outbox.position(session, own, name) is not None
            return [_page(session, account, name, whole=known and account != own) for account in (own, *others)]

    def _done(self, name: str, event: Event) -> None:
        with self._store.session() as session:
            outbox.done(session, event.account, name, event.id)


def _page(session: Session, account: str, name: str, *, whole: bool) -> list[Event]:
    """What is new in one account. `whole`: an account that is new to a known subscriber is told of from its start."""
    position = outbox.position(session, account, name)
    if position is None:
        position = 0 if whole else outbox.before(session, account, 0)
        outbox.done(session, account, name, position)
    return outbox.page(session, account, position, PAGE)


class Journal:
    """Writes every event into the controller's log."""

    name = "journal"

    async def handle(self, event: Event) -> None:
        approval = event.document.get("ModelApprovalStatus")
        log.info(
            event.change, arn=event.arn, status=event.status, reason=event.reason, at=event.at.isoformat(),
            **({"approval": approval} if approval else {}),
        )  # fmt: skip

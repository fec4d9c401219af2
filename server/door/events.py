"""`GET /hearth/events`: what changed, as a page of JSON, or as server-sent events as it happens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from server.control.events import rendered
from server.door.keeper import seen_by
from server.errors import BadRequest, Throttled
from server.store import outbox
from server.store.store import Store

MOST = 1000
"""Events of one page."""
FOLLOWERS = 64
"""Streams at once."""
LOOK_S = 0.5
KEEP_ALIVE_S = 15.0
STREAM_S = 3600.0
"""A stream ends after this time; clients of server-sent events come again by themselves, where they were."""


class EventsApi:
    """`after` is the `id` of the last event that a client has; `limit` bounds a page, `last` asks for the newest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followers = 0

    def routes(self) -> list[Route]:
        return [Route("/hearth/events", self.events)]

    async def events(self, request: Request) -> Response:
        asked, store = request.query_params, seen_by(request, self._store)
        limit = _number(asked, "limit", MOST, 1, MOST)
        if "text/event-stream" in request.headers.get("accept", ""):
            given = {"after": asked.get("after") or request.headers.get("last-event-id", "")}
            after = _number(given, "after") if given["after"] else await asyncio.to_thread(_before, store, 0)
            return _Followed(self, self._follow(store, after))
        last = _number(asked, "last", 0, 0, MOST)
        after = await asyncio.to_thread(_before, store, last) if last else _number(asked, "after")
        found = await asyncio.to_thread(_page, store, after, limit)
        return JSONResponse({"events": [_shown(event) for event in found], "next": found[-1].id if found else after})

    async def _follow(self, store: Store, after: int) -> AsyncIterator[str]:
        end = time.monotonic() + STREAM_S
        quiet_since = time.monotonic()
        yield ": events\n\n"
        while time.monotonic() < end:
            found = await asyncio.to_thread(_page, store, after, MOST)
            for event in found:
                after = event.id
                yield f"id: {event.id}\nevent: {event.change}\ndata: {json.dumps(rendered(event))}\n\n"
            if found:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > KEEP_ALIVE_S:
                quiet_since = time.monotonic()
                yield ":\n\n"
            if len(found) < MOST:
                await asyncio.sleep(LOOK_S)

    def enter(self) -> None:
        if self._followers >= FOLLOWERS:
            raise Throttled(f"{self._followers} clients follow the events, as many as may.", retry_after=5)
        self._followers += 1

    def leave(self) -> None:
        self._followers -= 1


class _Followed(StreamingResponse):
    """A stream that counts as a follower while it lasts."""

    def __init__(self, api: EventsApi, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._api.enter()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._api.leave()


def _page(store: Store, after: int, limit: int) -> list[outbox.Event]:
    with store.session() as session:
        return outbox.page(session, store.account, after, limit)


def _before(store: Store, last: int) -> int:
    """The id behind which the newest `last` events are."""
    with store.session() as session:
        return outbox.before(session, store.account, last)


def _shown(event: outbox.Event) -> dict[str, Any]:
    return {"id": event.id, "change": event.change, "event": rendered(event)}


def _number(asked: Mapping[str, str], name: str, default: int = 0, low: int = 0, high: int = 2**31 - 1) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise BadRequest(f"{name} must be a number from {low} to {high}, not {text[:50]!r}.", field=name)
    return int(text)

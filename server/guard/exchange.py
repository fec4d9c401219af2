"""One request on its way through the guard: what was sent and received, and what may cut it short."""

from __future__ import annotations

import asyncio
import time
from enum import Enum

from starlette.types import Message, Receive, Scope, Send

from server.dialects.paths import Route
from server.guard.caching.recording import Recording
from server.guard.keeping import Kept
from server.guard.shadowing import took
from server.identity.principal import Principal
from server.shadow.seal import Sealed

WATCH_AFTER_S = 0.2
"""A request this old gets a task that watches for its client leaving; younger ones do not pay for it."""

_REQUEST_ID = b"x-request-id"


class Cut(Enum):
    """Why a request was ended from outside."""

    LEFT = "the client left"
    BODY_TIMEOUT = "the body did not arrive in time"
    QUEUE_TIMEOUT = "its turn did not come in time"
    ANSWER_TIMEOUT = "the answer took too long"


class Exchange:
    """The guard's `receive` and `send` of one request, its clock and its cut-off.

    Cutting cancels the task that runs the application; whatever that still sends is dropped.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, route: Route, request_id: str) -> None:
        self.scope = scope
        self.route = route
        self.request_id = request_id
        self.caller: Principal | None = None
        """Who was let in; None: nobody was asked, or the request was refused."""
        self.extra: list[tuple[bytes, bytes]] = []
        """Headers that its answer has besides."""
        self.sealed: Sealed | None = None
        """Set for a copy that a production replica made: no client's request, and none of its quotas."""
        self.kept: Kept | None = None
        """Set where the request is to be copied to a shadow variant, or captured."""
        self.recording: Recording | None = None
        """Set where the answer may be kept for others."""
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.complete = False
        self.cut: Cut | None = None
        self.left = False
        """Whether the client is known to have left."""
        self.started_at = time.perf_counter()
        self.model_at: float | None = None
        self.first_byte_at: float | None = None
        self._receive = receive
        self._send = send
        self._body: bytes | None = None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._deadline: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[object]:
        assert self._task is not None
        return self._task

    def allow(self, seconds: float, otherwise: Cut) -> None:
        """Sets the deadline of what comes next; replaces the one before."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, self._end, otherwise)

    def hand_on(self, body: bytes) -> None:
        """From here on the application receives `body`, and its client is watched."""
        self._body = body
        self.bytes_in = len(body)
        self.model_at = time.perf_counter()
        self.watch()

    def watch(self) -> None:
        """Has the client watched; its body must have been read."""
        if self._watch_timer is None:
            self._watch_timer = self._loop.call_later(WATCH_AFTER_S, self._start_watching)

    def close(self) -> None:
        for timer in (self._deadline, self._watch_timer):
            if timer is not None:
                timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    async def receive(self) -> Message:
        """For the application: the body once, then what the client does."""
        if self._body is not None:
            message: Message = {"type": "http.request", "body": self._body, "more_body": False}
            self._body = None
            return message
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.complete:
            self.left = True
        return message

    async def send(self, message: Message) -> None:
        """For the application; nothing of it goes out after a cut."""
        if self.cut is None:
            await self.emit(message)

    async def emit(self, message: Message) -> None:
        kind = message["type"]
        if self.recording is not None:
            self.recording.note(message)
        if kind == "http.response.start":
            self.status = message["status"]
            if self.sealed is not None and self.model_at is not None:
                self.extra = [*self.extra, took(time.perf_counter() - self.model_at)]
            headers = [*message.get("headers", ()), *self.extra, (_REQUEST_ID, self.request_id.encode())]
            message = {**message, "headers": headers}
        elif kind == "http.response.body":
            if self.first_byte_at is None:
                self.first_byte_at = time.perf_counter()
            self.bytes_out += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        if self.kept is not None:
            self.kept.note(message)
        await self._send(message)

    def _end(self, cut: Cut) -> None:
        if self.cut is None and not self.complete:
            self.cut = cut
            self.left = self.left or cut is Cut.LEFT
            self.task.cancel()

    def _start_watching(self) -> None:
        self._watcher = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._end(Cut.LEFT)

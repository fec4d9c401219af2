"""Any engine as a `PayloadEngine`: the dialect of invocations, called in memory.

An engine for text, vectors or images does not know bodies; the dialect does. As one of several containers it is
asked with bodies all the same.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Scope

from server.dialects.call import Call
from server.dialects.engine import Answer, Engines, Invocation, PayloadEngine
from server.dialects.errors import Refused
from server.dialects.identity import Identity
from server.dialects.openai import OpenAI
from server.dialects.outlet import Broken, Outlet
from server.dialects.paths import route_of
from server.dialects.runtime import Runtime, as_hearth_error
from server.errors import HearthError, ModelFailed
from server.guard.middleware import check_body
from server.replicas.stream import Stream
from server.spec import Limits

PATH = "/invocations"
ROUTE = route_of(PATH)
LEAVE_S = 0.1
"""How long a mounted application may take to notice by itself that nobody reads its answer any more."""


def payload_engine(engines: Engines, identity: Identity, limits: Limits) -> PayloadEngine:
    """The engine that takes bodies, or the dialect around one that does not."""
    return engines.payload or Faces(engines, identity, limits)


class Faces:
    """A `PayloadEngine` around the faces of another engine. Bodies are bounded as the guard bounds them."""

    def __init__(self, engines: Engines, identity: Identity, limits: Limits) -> None:
        self._runtime = Runtime(engines, OpenAI(engines, identity), identity, limits)
        self._names = identity.names
        self._limits = limits

    async def invoke(self, invocation: Invocation) -> Answer:
        """See `PayloadEngine`; also raises Refused, with a mounted application's own error. The answer is in parts."""
        scope = _scope(invocation)
        call = Call.of(scope)
        self._runtime.check(call, ROUTE)
        check_body(ROUTE, scope, invocation.body, self._limits, self._names)
        answering = _Answering(self._runtime, call, invocation, scope)
        return Answer(answering, await answering.content_type())


class _Answering:
    """`Parts` of an answer that a task makes."""

    def __init__(self, runtime: Runtime, call: Call, invocation: Invocation, scope: Scope) -> None:
        self._gone = asyncio.Event()
        self._inlet = _Inlet()
        self._work = asyncio.create_task(self._answer(runtime, call, invocation, scope))

    async def content_type(self) -> str:
        """Returns when the answer begins. Raises why it does not."""
        try:
            await asyncio.wait((self._work, self._inlet.begun), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if not self._inlet.begun.done():
            self._work.result()
            raise ModelFailed("the model gave no answer")
        return self._inlet.begun.result().decode("latin-1")

    async def _answer(self, runtime: Runtime, call: Call, invocation: Invocation, scope: Scope) -> None:
        try:
            await runtime.answer(
                call, invocation.body, self._inlet, scope, self._receive, streams=invocation.streams
            )
        except Broken:
            return
        except Refused:
            raise
        except Exception as error:
            meant = as_hearth_error(error, call.request_id)
            if not self._inlet.started:
                raise meant from error
            await self._inlet.fail(meant)

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def __aiter__(self) -> Stream:
        return self._inlet.stream

    async def aclose(self) -> None:
        self._gone.set()
        await self._inlet.stream.aclose()
        await asyncio.wait((self._work,), timeout=LEAVE_S)
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)


class _Inlet(Outlet):
    """Takes an answer for whoever goes on with it; the type in `begun`, the parts in `stream`. Raises Broken when
    nobody does."""

    def __init__(self) -> None:
        super().__init__(_nowhere, (), framed=True)
        self.begun: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.stream = Stream()

    async def start(self, content_type: bytes, length: int | None = None) -> None:
        self.started = True
        self.begun.set_result(content_type)

    async def part(self, data: bytes) -> None:
        if data and not await self.stream.put(data):
            raise Broken("nobody reads on")

    async def end(self) -> None:
        self.ended = True
        await self.stream.end()

    async def fail(self, exc: HearthError, event: bytes = b"") -> None:
        self.ended = True
        await self.stream.end(exc)


async def _nowhere(message: Message) -> None:
    raise RuntimeError(f"{message['type']} was sent past the inlet")


def _scope(invocation: Invocation) -> Scope:
    headers = {**invocation.headers, "x-request-id": invocation.request_id}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": None,
        "server": None,
        "state": {},
    }

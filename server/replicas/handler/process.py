"""One worker process from outside: started, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from server.deathsig import die_with_parent
from server.dialects.engine import Invocation
from server.errors import BadRequest, BodyTooLarge, HearthError, ModelFailed, UnsupportedMedia
from server.replicas.handler import wire
from server.replicas.handler.program import Program

WORKER = Path(__file__).with_name("worker.py")
TERMINATE_S = 3.0
"""How long a worker may take to end by itself when its replica stops."""
REAP_S = 5.0

Said = TypeVar("Said")


class Lost(Exception):
    """The worker is no more: it ended, hung or spoke nonsense. The text is fit for a client."""


@dataclass(frozen=True, slots=True)
class Launch:
    """All that it takes to start a worker."""

    python: Path
    program: Program
    environ: Mapping[str, str]
    default_accept: str
    max_answer_bytes: int
    start_timeout_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker says to a request: the whole answer, or one part of it."""

    body: bytes
    content_type: str
    more: bool
    """Whether other parts follow."""


class Worker:
    """A process that has loaded the model. Takes one request at a time."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._max_answer_bytes = most

    @classmethod
    async def start(cls, launch: Launch) -> Worker:
        """Returns when `model_fn` has. Raises ModelFailed with what it raised."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                str(launch.python), "-P", "-u", str(WORKER), str(theirs.fileno()), cwd=launch.program.model_dir,
                env=dict(launch.environ), stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(process, reader, writer, launch.max_answer_bytes)
        try:
            async with asyncio.timeout(launch.start_timeout_s):
                header, _ = await worker._exchange(_start_message(launch), b"")
        except TimeoutError:
            await worker.kill()
            raise ModelFailed(f"model_fn did not return within {launch.start_timeout_s:g} s") from None
        except Lost as lost:
            raise ModelFailed(f"the model could not be loaded: {lost}") from None
        except BaseException:
            await worker.kill()
            raise
        if header.get("status") != 200:
            await worker.kill()
            raise ModelFailed(f"the model could not be loaded: {header.get('message')}")
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> str:
        """Waits until the process is no more; how it ended, in words."""
        return _ending(await self._process.wait())

    async def ask(self, invocation: Invocation) -> Reply:
        """Raises the HearthError that the customer's code means, or Lost; the worker is dead then. Cut short, it
        leaves a worker that must be killed; so do the others here."""
        header = {
            "content_type": invocation.content_type,
            "accept": invocation.accept,
            "headers": dict(invocation.headers),
            "request_id": invocation.request_id,
        }
        return _reply(*await self._exchange(header, invocation.body))

    async def next_part(self) -> Reply:
        """Raises as `ask` does."""
        return _reply(*await self._listened(self._receive()))

    async def enough(self) -> None:
        """Asks the code to leave out the rest of its answer; what comes of it must still be read to its end."""
        await self._listened(self._send({wire.ENOUGH: True}, b""))

    async def kill(self) -> None:
        """Ends the process and all that it started, at once."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), REAP_S)

    async def stop(self) -> None:
        """Lets the process end by itself: it does when its socket closes. Kills one that does not."""
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), TERMINATE_S)
        await self.kill()

    async def _exchange(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        await self._listened(self._send(header, body))
        return await self._listened(self._receive())

    async def _send(self, header: dict[str, Any], body: bytes) -> None:
        self._writer.write(wire.pack(header, body))
        await self._writer.drain()

    async def _receive(self) -> tuple[dict[str, Any], bytes]:
        sizes = wire.lengths(await self._reader.readexactly(wire.PREFIX.size), self._max_answer_bytes)
        parsed = wire.parse(await self._reader.readexactly(sizes[0]))
        return parsed, await self._reader.readexactly(sizes[1])

    async def _listened(self, talk: Coroutine[Any, Any, Said]) -> Said:
        """What `talk` brings. Raises Lost when it breaks off."""
        try:
            return await talk
        except (asyncio.IncompleteReadError, OSError):
            raise Lost(f"the model's code ended while answering: {await self._reaped()}") from None
        except (wire.BadMessage, struct.error) as error:
            await self.kill()
            raise Lost(f"the model's code spoiled its connection: {error}") from None

    async def _reaped(self) -> str:
        """How the process ended, now that its connection has; one that goes on without it is killed."""
        try:
            return await asyncio.wait_for(self.ended(), REAP_S)
        except TimeoutError:
            return "it closed its connection"
        finally:
            await self.kill()


def _reply(header: Mapping[str, Any], body: bytes) -> Reply:
    if header.get("status") != 200:
        raise meant(header)
    return Reply(body, str(header.get("content_type")), header.get("more") is True)


def meant(answer: Mapping[str, Any]) -> HearthError:
    """The error that a worker's answer stands for, with the status that the customer's code chose."""
    status, message = answer.get("status"), str(answer.get("message"))
    kinds: dict[object, type[HearthError]] = {413: BodyTooLarge, 415: UnsupportedMedia}
    is_client = isinstance(status, int) and 400 <= status < 500
    error = kinds.get(status, BadRequest if is_client else ModelFailed)(message)
    if isinstance(status, int):
        error.status = status
    return error


def _start_message(launch: Launch) -> dict[str, Any]:
    return {
        "program": str(launch.program.file),
        "code_dir": str(launch.program.code_dir),
        "model_dir": str(launch.program.model_dir),
        "default_accept": launch.default_accept,
        "max_answer_bytes": launch.max_answer_bytes,
    }


def _ending(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"it exited with status {status}"

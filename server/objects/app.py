"""The S3 API as an ASGI application: address ▸ gate ▸ operation ▸ storage, and an answer in S3's words."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import structlog
from starlette.types import Receive, Scope, Send

from server.objects import operations
from server.objects.body import Body, Promise, promise
from server.objects.errors import ObjectError, error_document
from server.objects.inflow import IDLE_S, ClientGone, Inflow
from server.objects.key_use import on_behalf
from server.objects.observing import Observe, Seen, unseen
from server.objects.opening import Tenants, open_storage
from server.objects.reading import (
    MAX_DOCUMENT_BYTES,
    Params,
    has_streaming_body,
    own_checksums,
    read_document,
    read_parameters,
)
from server.objects.request import Request, read_request
from server.objects.signature import Caller, Gate, LooseGate
from server.objects.storage import BLOCK_BYTES, Content, Storage
from server.objects.writing import Headers, status_of, write_document, write_headers
from server.settings import Settings
from server.vault.vault import Vault

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

UPLOADS = 64
"""Bodies larger than a block that are taken in at a time, each by a thread; one more is asked to slow down."""

REQUESTS = 256
"""Requests in flight; one more is asked to slow down."""

_DRAINED_BYTES = 16 * 1024 * 1024
"""What is read of a refused body so that its sender gets to read the refusal."""


def application(
    settings: Settings, gate: Gate | None = None, observe: Observe = unseen, vault: Vault | None = None
) -> ObjectsApp:
    """The S3 API over what `settings` says. The caller closes it.

    `gate` decides who may call; None: any credentials (`LooseGate`). `observe` is told of every call. `vault` has the
    keys that objects are encrypted under; None: one over the settings' database.
    """
    hosts = () if settings.objects_host is None else (settings.objects_host,)
    tenants = Tenants(settings, vault)
    return ObjectsApp(open_storage(settings, vault), gate or LooseGate(), hosts, observe=observe, tenants=tenants)


class ObjectsApp:
    """Takes what `is_object_request` says is S3's."""

    def __init__(
        self,
        storage: Storage,
        gate: Gate,
        hosts: Iterable[str],
        idle_s: float = IDLE_S,
        uploads: int = UPLOADS,
        observe: Observe = unseen,
        tenants: Tenants | None = None,
    ) -> None:
        """`storage` is that of whom `tenants` does not know; None: of everybody. Both are closed with this."""
        self.storage = storage
        self._tenants = tenants
        self.hosts = tuple(hosts)
        """Host names whose subdomains are buckets, signed or not; for what is signed, `localhost` is one too."""
        self._gate = gate
        self._observe = observe
        self.idle_s = idle_s
        self._most_uploads = uploads
        self._threads = ThreadPoolExecutor(uploads + 16, thread_name_prefix="objects")
        self._uploads: set[Inflow] = set()
        self._requests = 0

    def close(self) -> None:
        """Ends what is in flight; what was not whole leaves nothing. Blocks for as long as threads need for that."""
        for inflow in list(self._uploads):
            inflow.abandon()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.storage.close()
        if self._tenants is not None:
            self._tenants.close()

    def _of(self, caller: Caller) -> Storage:
        """The storage that a caller sees."""
        return (None if self._tenants is None else self._tenants.of(caller.account)) or self.storage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(scope, send, self.idle_s)
        inflow = Inflow(receive, self.idle_s)
        seen = Seen(scope, answer.id)
        self._requests += 1
        try:
            if self._requests > REQUESTS:
                raise ObjectError("SlowDown")
            await self._serve(seen, inflow, answer)
        except ClientGone:
            return
        except Exception as error:
            if answer.started:
                raise
            if not isinstance(error, ObjectError):
                log.exception("an object request failed", method=scope["method"], path=scope["path"])
                error = ObjectError("InternalError")
            await self._failed(seen, error)
            await answer.refuse(error, inflow)
        finally:
            self._requests -= 1

    async def _serve(self, seen: Seen, inflow: Inflow, answer: _Answer) -> None:
        request = seen.request = read_request(seen.scope, (*self.hosts, "localhost"))
        caller = seen.caller = self._gate.admit(request)
        with on_behalf(self._gate.uses(caller, request)):
            await self._operate(seen, request, caller, inflow, answer)

    async def _operate(self, seen: Seen, request: Request, caller: Caller, inflow: Inflow, answer: _Answer) -> None:
        operation = operations.find(request.method, request.bucket, request.key, request.query, request.headers)
        seen.operation = operation
        seen.params = params = read_parameters(operation, request)
        if has_streaming_body(operation):
            self._gate.permit(caller, request, operation.name, ())
            result = await self._uploaded(operation, params, promise(_vouched(request.headers, caller)), caller, inflow)
        else:
            params.update(await self._document(operation, request, caller, inflow))
            self._gate.permit(caller, request, operation.name, _keys(params))
            result = await self._run(lambda: self._of(caller).call(operation, params, None))
        try:
            await self._observe(seen)
        except BaseException:
            if content := result.get("Body"):
                content.close()
            raise
        await answer.give(operation, result, self._run, inflow)

    async def _failed(self, seen: Seen, error: ObjectError) -> None:
        """An observer that cannot keep this either has said so in the log."""
        seen.error = error
        with contextlib.suppress(ObjectError):
            await self._observe(seen)

    async def _uploaded(
        self, operation: Any, params: Params, promised: Promise, caller: Caller, inflow: Inflow
    ) -> Mapping[str, Any]:
        if promised.arriving <= BLOCK_BYTES:
            # Small and whole before a thread takes it: a slow sender holds none.
            raw: Iterable[bytes] = await _whole(inflow, 2 * BLOCK_BYTES)
            return await self._run(lambda: self._of(caller).call(operation, params, Body(raw, promised, caller.seal)))
        if len(self._uploads) >= self._most_uploads:
            raise ObjectError("SlowDown")
        self._uploads.add(inflow)
        try:
            return await self._run(
                lambda: self._of(caller).call(operation, params, Body(inflow, promised, caller.seal))
            )  # fmt: skip
        finally:
            inflow.abandon()
            self._uploads.discard(inflow)

    async def _document(self, operation: Any, request: Request, caller: Caller, inflow: Inflow) -> Params:
        """The XML body, checked as any other."""
        if request.method not in ("PUT", "POST"):
            return {}
        blocks = await _whole(inflow, MAX_DOCUMENT_BYTES)
        headers = {"content-length": str(sum(len(block) for block in blocks)), **_vouched(request.headers, caller)}
        # Checksums that the operation has as parameters of its own are not this document's.
        for name in own_checksums(operation):
            headers.pop(name, None)
        promised = promise(headers)
        if operation.http_checksum.get("requestChecksumRequired") and not (
            promised.md5 or promised.checksums or promised.trailing
        ):
            raise ObjectError("InvalidRequest", "Missing required header for this request: Content-MD5 or "
                                                "x-amz-checksum-*")  # fmt: skip
        return read_document(operation, b"".join(Body(blocks, promised, caller.seal)))

    async def _run(self, call: Callable[[], Result]) -> Result:
        # A thread of the pool knows the caller (`key_use`) by the context that is handed to it.
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, call)


def _keys(params: Params) -> list[tuple[str, bool]]:
    """The keys that DeleteObjects names, and whether by version."""
    return [(each["Key"], bool(each.get("VersionId"))) for each in (params.get("Delete") or {}).get("Objects", ())]


def _vouched(headers: Mapping[str, str], caller: Caller) -> Mapping[str, str]:
    """With what the signature says of the body in its header's place: a presigned address says it in its query."""
    return headers if caller.payload is None else {**headers, "x-amz-content-sha256": caller.payload}


Run = Callable[[Callable[[], bytes | None]], Any]


async def _whole(inflow: Inflow, most: int) -> list[bytes]:
    """Raises EntityTooLarge beyond `most` bytes."""
    blocks: list[bytes] = []
    while block := await inflow.gather():
        blocks.append(block)
        most -= len(block)
        if most < 0:
            raise ObjectError("EntityTooLarge")
    return blocks


class _Answer:
    """What goes back to one client."""

    def __init__(self, scope: Scope, send: Send, idle_s: float) -> None:
        self._scope = scope
        self._send = send
        self.idle_s = idle_s
        given = [value for name, value in scope["headers"] if name == b"x-request-id"]
        self.id = given[0].decode("latin-1") if given else secrets.token_hex(8).upper()
        self.started = False

    async def give(self, operation: Any, result: Mapping[str, Any], run: Run, inflow: Inflow) -> None:
        content: Content | None = result.get("Body")
        try:
            rest = {name: value for name, value in result.items() if name not in ("Body", "ResponseMetadata")}
            headers = write_headers(operation, rest)
            status = status_of(operation, result)
            if content is not None:
                await self._start(status, headers)
                await self._stream(content, run, inflow)
                return
            document = b"" if self._scope["method"] == "HEAD" or status == 204 else write_document(operation, rest)
            if document:
                headers.append((b"content-type", b"application/xml"))
            if status != 204 and not any(name == b"content-length" for name, _ in headers):
                headers.append((b"content-length", str(len(document)).encode()))
            await self._start(status, headers)
            await self._body(document)
        finally:
            if content is not None:
                content.close()

    async def refuse(self, error: ObjectError, inflow: Inflow) -> None:
        document = error_document(error, self._scope["path"], self.id)
        if self._scope["method"] == "HEAD" or error.status == 304:
            document = b""
        headers: Headers = [(name.encode(), value.encode("latin-1")) for name, value in error.headers.items()]
        if error.status != 304:
            headers += [(b"content-type", b"application/xml"), (b"content-length", str(len(document)).encode())]
        expects = any(name == b"expect" for name, _ in self._scope["headers"])
        if not inflow.ended and (expects or not await inflow.drain(_DRAINED_BYTES)):
            headers.append((b"connection", b"close"))
        await self._start(error.status, headers)
        await self._body(document)

    async def _stream(self, content: Content, run: Run, inflow: Inflow) -> None:
        blocks = content.blocks()
        gone = asyncio.ensure_future(inflow.left())
        following = asyncio.ensure_future(run(lambda: next(blocks, None)))
        try:
            while (block := await following) is not None:
                following = asyncio.ensure_future(run(lambda: next(blocks, None)))
                await self._body(block, more=True)
                if gone.done():
                    raise ClientGone
        finally:
            gone.cancel()
            following.cancel()
            await asyncio.gather(following, gone, return_exceptions=True)
        await self._body(b"")

    async def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        names = [(b"x-amz-request-id", self.id.encode("latin-1")), (b"x-amz-id-2", self.id.encode("latin-1"))]
        await self._bounded({"type": "http.response.start", "status": status, "headers": [*headers, *names]})

    async def _body(self, block: bytes, *, more: bool = False) -> None:
        await self._bounded({"type": "http.response.body", "body": block, "more_body": more})

    async def _bounded(self, message: dict[str, Any]) -> None:
        """Raises ClientGone for a client that takes nothing."""
        try:
            await asyncio.wait_for(self._send(message), self.idle_s)
        except TimeoutError:
            raise ClientGone from None

"""The audit log's eyes in the door: S3's calls and Hearth's own. Those of AWS services are `control.audit`'s."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.audit.event import Call, Named, record
from server.audit.log import AuditLog
from server.audit.redaction import message_without, redact
from server.audit.touched import touched
from server.control.audit import reads
from server.control.scope import scope
from server.errors import HearthError, Unauthenticated, Unavailable
from server.identity.principal import Principal, root
from server.objects.errors import ObjectError
from server.objects.observing import Seen
from server.objects.signature import Caller
from server.settings import Settings

Handler = Callable[[Request], Awaitable[Response]]

OBJECT_LISTS = frozenset({
    "ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads", "DeleteObjects",
})  # fmt: skip
"""Calls to a bucket that CloudTrail counts as calls of objects."""


class ObjectsAudit:
    """`observe` for the object store: calls to buckets are control calls, those to objects are sampled."""

    def __init__(
        self, log: AuditLog, settings: Settings, draw: Callable[[], float] = random.random,
        whose: Callable[[str], str | None] | None = None,
    ) -> None:  # fmt: skip
        """`whose`: the account of an access key that was not proved, where it is known."""
        self._whose = whose
        self._log = log
        self._settings = settings
        self._draw = draw

    async def observe(self, seen: Seen) -> None:
        """Raises ObjectError when the event of a changed bucket cannot be kept."""
        name = seen.operation.name if seen.operation is not None else "Unknown"
        data = name in OBJECT_LISTS or bool(seen.request is not None and seen.request.key)
        if data and self._draw() >= self._settings.audit_data_share:
            return
        event = record(self._call(seen, name, data=data))
        if data or seen.error is not None or reads("s3", name):
            self._log.record(event)
            return
        try:
            await asyncio.to_thread(self._log.commit, event)
        except Unavailable as error:
            raise ObjectError("InternalError", error.message) from None

    def _call(self, seen: Seen, name: str, *, data: bool) -> Call:
        caller = seen.caller
        headers = seen.request.headers if seen.request is not None else {}
        signed = scope(headers, seen.request.query) if seen.request is not None else None
        region = signed.region if signed else self._settings.region
        claimed = self._whose(signed.access_key) if self._whose is not None and signed else None
        account = (caller.account if caller is not None else claimed) or self._settings.account
        shape = seen.operation.input_shape if seen.operation is not None else None
        kept = redact(seen.params, shape) if shape is not None else {}
        if "bucket" in kept:
            kept["bucketName"] = kept.pop("bucket")
        return Call(
            source="s3.amazonaws.com",
            name=name,
            account=account,
            region=region,
            read_only=reads("s3", name),
            caller=None if caller is None else _principal(caller, account),
            access_key=signed.access_key if signed else "",
            address=headers.get("x-forwarded-for", ""),
            user_agent=headers.get("user-agent", ""),
            request_id=seen.request_id,
            parameters=kept,
            error_code=None if seen.error is None else seen.error.code,
            error_message=None if seen.error is None else message_without(seen.error.message, seen.params, kept),
            resources=touched("s3", name, account, region, seen.params, {}),
            category="Data" if data else "Management",
        )


def _principal(caller: Caller, account: str) -> Principal:
    """Who an object store's caller is; the account itself where nobody is asked."""
    if not caller.arn:
        return replace(root(account), access_key=caller.access_key)
    return Principal(account, caller.arn, account if caller.arn.endswith(":root") else "", caller.access_key)


class HearthAudit:
    """Hearth's own routes that change something, each under the name of an event."""

    def __init__(self, log: AuditLog, settings: Settings) -> None:
        self._log = log
        self._settings = settings

    def watch(self, name: str, handler: Handler) -> Handler:
        """`handler`, whose answer goes out once its event is on disk."""

        async def watched(request: Request) -> Response:
            try:
                reply = await handler(request)
            except HearthError as error:
                self._log.record(record(self._call(name, request, error)))
                raise
            await asyncio.to_thread(self._log.commit, record(self._call(name, request, None)))
            return reply

        return watched

    def _call(self, name: str, request: Request, error: HearthError | None) -> Call:
        settings = self._settings
        body: dict[str, Any] = getattr(request.state, "document", {})  # what the handler could read of it
        kept = redact({**request.path_params, **body})
        message = None if error is None else error.message
        endpoint = request.path_params.get("name", "")
        caller = _caller(request)
        account = settings.account if caller is None else caller.account
        arn = f"arn:aws:sagemaker:{settings.region}:{account}:endpoint/{endpoint.lower()}"
        return Call(
            source="hearth.internal",
            name=name,
            account=account,
            region=settings.region,
            read_only=False,
            caller=None if isinstance(error, Unauthenticated) else caller or root(account),
            address=request.headers.get("x-forwarded-for", ""),
            user_agent=request.headers.get("user-agent", ""),
            request_id=request.headers.get("x-request-id", ""),
            parameters=kept,
            error_code=None if error is None else error.code,
            error_message=None if message is None else message_without(message, body, kept),
            resources=[Named(arn, "AWS::SageMaker::Endpoint")],
        )


def _caller(request: Request) -> Principal | None:
    """None: nobody was asked, or nobody was known."""
    found = getattr(request.state, "caller", None)
    return found if isinstance(found, Principal) else None

"""One call of an AWS service: from bytes to the operation that it names, and its answer or error back.

The same for every service and protocol: read, check against the input shape, ask whether the caller may,
run, project onto the output shape. Whatever goes wrong becomes an error that the client's SDK can read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from server.control import shapes
from server.control.failures import failure
from server.control.key_references import check_keys
from server.control.operations import Context
from server.control.projection import answer
from server.control.protocols.wire import Wire
from server.control.reply import Reply
from server.control.service import Service
from server.errors import HearthError, UnknownOperation

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Call:
    """A call under way. `request` is there once it was read, then `result` or `error`."""

    context: Context
    service: Service
    operation: str
    request: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    error: HearthError | None = None


Authorize = Callable[[Call], None]
"""Asked before an operation runs, with its request checked. Raises Forbidden."""
Observe = Callable[[Call], None]
"""Told of every call, before its answer goes out. Raises an error that the caller gets in its place."""


def anyone(_call: Call) -> None:
    """Nobody is refused."""


def unseen(_call: Call) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Answers calls. `authorize` and `observe` see each of them, whatever its service."""

    authorize: Authorize = anyone
    observe: Observe = unseen

    def call(self, context: Context, service: Service, operation: str, wire: Wire, body: bytes) -> Reply:
        call = Call(context, service, operation)
        try:
            call.result = self._answer(call, wire, body)
        except HearthError as error:
            call.error = error
        except Exception:
            log.exception("operation failed", operation=operation, request_id=context.request_id)
            call.error = HearthError("Something went wrong inside Hearth; the door's log has it.")
        return self._end(call, wire)

    def refuse(self, context: Context, service: Service, operation: str, wire: Wire, error: HearthError) -> Reply:
        """The answer to a call that failed before it could be read."""
        return self._end(Call(context, service, operation, error=error), wire)

    def _answer(self, call: Call, wire: Wire, body: bytes) -> Mapping[str, Any]:
        service, name = call.service, call.operation
        if name not in service.operations:
            raise UnknownOperation(f"{name!r} names no operation of {service.name}.")
        call.request = shapes.read(service.input(name), wire.parse(service, name, body))
        function = service.built.get(name)
        if function is None:
            raise UnknownOperation(f"Hearth has no {name}; docs/sagemaker-operations.md lists the operations it has.")
        self.authorize(call)
        check_keys(call.context, service.input(name), call.request)
        return answer(service.output(name), function(call.context, call.request))

    def _end(self, call: Call, wire: Wire) -> Reply:
        try:
            self.observe(call)
        except HearthError as error:
            call.error = error
        request_id = call.context.request_id
        if call.error is None:
            return wire.answer(call.service, call.operation, call.result or {}, request_id)
        return wire.failure(call.service, failure(call.error, call.service, call.operation), request_id)

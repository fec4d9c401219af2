"""What an observer is told of a call of the object store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from server.objects.errors import ObjectError
from server.objects.request import Request
from server.objects.signature import Caller


@dataclass(slots=True)
class Seen:
    """A call that ended, as far as it was understood. `params` are without the body of an object."""

    scope: Scope
    request_id: str
    request: Request | None = None
    caller: Caller | None = None
    operation: Any = None
    """botocore's model of it."""
    params: Mapping[str, Any] = field(default_factory=dict)
    error: ObjectError | None = None


Observe = Callable[[Seen], Awaitable[None]]
"""Told of every call before its answer goes out. Raises ObjectError, which the caller then gets in its place."""


async def unseen(_seen: Seen) -> None:
    """Nobody is told."""

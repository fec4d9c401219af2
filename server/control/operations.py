"""The operations that are built: functions registered under the name that SageMaker has for them.

An operation takes the caller's context and a request that passed the shape check. It validates references,
writes intent in one transaction and returns what the answer is projected from. It never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.control import service
from server.control.instances import Machine
from server.store.store import Store

Request = Mapping[str, Any]
Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, and of what: the store as the caller's region sees it."""

    store: Store
    machine: Machine
    request_id: str = ""

    @property
    def account(self) -> str:
        return self.store.account

    @property
    def region(self) -> str:
        return self.store.region


Operation = Callable[[Context, Request], Answer]

_BUILT: dict[str, Operation] = {}


def register(name: str, function: Operation) -> None:
    """Raises LookupError for a name that is no operation of SageMaker's, or that is taken."""
    if name not in service.OPERATIONS:
        raise LookupError(f"SageMaker has no operation {name}")
    if name in _BUILT:
        raise LookupError(f"{name} is registered twice")
    _BUILT[name] = function


def operation(function: Operation) -> Operation:
    """Registers ``def create_endpoint(context, request)`` as CreateEndpoint."""
    register("".join(word.capitalize() for word in function.__name__.split("_")), function)
    return function


def built() -> Mapping[str, Operation]:
    """Every operation that is built, by name."""
    return _BUILT

"""The operations that the local store has: functions named after them, each with the parameters that it honours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore import xform_name

from server.objects.body import Body
from server.objects.operations import MODEL
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

Result = Mapping[str, Any]
Function = Callable[["LocalStore", Params, Body | None], Result]


@dataclass(frozen=True, slots=True)
class Built:
    function: Function
    honoured: frozenset[str]


OPERATIONS: dict[str, Built] = {}

_NAMES = {xform_name(name): name for name in MODEL.operation_names}


def operation(honoured: str) -> Callable[[Function], Function]:
    """Registers a function. Raises ValueError where its name is no operation or a parameter none of its."""

    def register(function: Function) -> Function:
        name = _NAMES.get(function.__name__)
        if name is None:
            raise ValueError(f"{function.__name__} is no operation of S3")
        shape = MODEL.operation_model(name).input_shape
        members = frozenset(honoured.split())
        if unknown := members - set(shape.members if shape else ()):
            raise ValueError(f"{name} has no parameter {', '.join(sorted(unknown))}")
        OPERATIONS[name] = Built(function, members)
        return function

    return register

"""numba's compiler under a type mypy understands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.extending import intrinsic, overload, register_jitable

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function` compiled on its first call, its floating point as strict as IEEE's: no contraction, no reordering."""
    return cast(F, njit(function))


def compiled_reordering(function: F) -> F:
    """The same where neither NaN nor a negative zero occurs: LLVM then vectorises a maximum of floats."""
    return cast(F, njit(fastmath={"nnan", "nsz"})(function))


def compilable(function: F) -> F:
    """`function` as Python, and compiled into whatever compiled code calls it."""
    return cast(F, register_jitable(function))


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `function(typing_context, *types)` generates, in place of a call in compiled code."""
    return cast(Callable[..., Any], intrinsic(function))


def by_type(name: Callable[..., Any]) -> Callable[[F], F]:
    """Calls of `name` in compiled code become what the decorated function returns for the types of the arguments."""
    # Not strict: numba would want the returned lambdas annotated.
    return cast(Callable[[F], F], overload(name, inline="always", strict=False))

"""KMS keys that a request names: wherever a service's model has a `KmsKeyId`, the key must be there and enabled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from server.control.operations import Context
from server.errors import BadRequest, Forbidden, Refusal
from server.store.store import Resource

SHAPE = "KmsKeyId"


def resolve_key(context: Context, named: str) -> Resource:
    """The key that an alias, an id or an ARN names. Raises BadRequest (ValidationException) where it cannot be used."""
    try:
        return context.keys.usable(named)
    except (Refusal, Forbidden) as error:
        raise BadRequest(f"The KMS key {named!r} cannot be used: {error.message}", field="kmsKeyId") from None


def check_keys(context: Context, shape: Any, request: Mapping[str, Any]) -> None:
    """Raises BadRequest for a key that cannot be used. An empty name asks for no key."""
    if shape is None or not _names_keys(shape):
        return
    for named in _named(shape, request):
        if named:
            resolve_key(context, named)


def _named(shape: Any, value: Any) -> Iterator[str]:
    if shape.name == SHAPE:
        yield value
    elif shape.type_name == "structure":
        for name, member in value.items():
            yield from _named(shape.members[name], member)
    elif shape.type_name == "list":
        for item in value:
            yield from _named(shape.member, item)
    elif shape.type_name == "map":
        for item in value.values():
            yield from _named(shape.value, item)


@cache
def _names_keys(shape: Any) -> bool:
    """Whether a request of this shape can name a key: most cannot, and need not be searched."""
    seen, left = {shape.name}, [shape]
    while left:
        for inner in _inside(left.pop()):
            if inner.name == SHAPE:
                return True
            if inner.name not in seen:
                seen.add(inner.name)
                left.append(inner)
    return False


def _inside(shape: Any) -> list[Any]:
    if shape.type_name == "structure":
        return list(shape.members.values())
    if shape.type_name == "list":
        return [shape.member]
    return [shape.value] if shape.type_name == "map" else []

"""A request or an answer as the log may keep it: no secrets, nothing large, members in CloudTrail's letters.

Hidden are: members that the service model marks as sensitive, values of environment variables, blobs, members
and keys whose names speak of secrets, and addresses that carry a signature or a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
MAX_TEXT = 2048
MAX_ITEMS = 100
MAX_DEPTH = 24

_SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|private_?key|api_?key|authoriz|signature|plaintext"
    r"|presignedurl|bootstrap|^env$|environment(variables)?$",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"(arn|id|ids|name|count|limit|expiry|duration\w*|seconds|tokens)$|^(next|client|clientrequest)token$",
    re.IGNORECASE,
)
"""Names of things around a secret, and of page and idempotency tokens."""
_SIGNED = re.compile(r"x-amz-(signature|security-token|credential)|[?&]signature=|://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)


def secret_name(name: str) -> bool:
    """Whether what is called `name` is not to be written down."""
    return bool(_SECRET.search(name)) and not _PLAIN.search(name)


def redact(value: Any, shape: Any = None, name: str = "", depth: int = 0) -> Any:
    """`value` of `shape` (botocore's; None: any JSON) under the member or key `name`, fit to be kept.

    Members that the shape does not have are left out.
    """
    if value is None or isinstance(value, bool):
        return value
    if secret_name(name):
        return _emptied(value)
    if shape is not None and shape.metadata.get("sensitive"):
        return HIDDEN
    if isinstance(value, bytes | bytearray) or (shape is not None and shape.type_name == "blob"):
        return HIDDEN
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return _mapping(value, shape, depth)
    if isinstance(value, list | tuple):
        return _items(list(value), shape, name, depth)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float):
        return value
    text = str(value)
    return HIDDEN if _SIGNED.search(text) else cut(text, MAX_TEXT)


def _mapping(value: Mapping[Any, Any], shape: Any, depth: int) -> dict[str, Any]:
    kind = None if shape is None else shape.type_name
    if kind == "structure":
        members = [(each, shape.members[each]) for each in value if each in shape.members]
        return {_small(each): redact(value[each], member, each, depth + 1) for each, member in members}
    inner = shape.value if kind == "map" else None
    pairs = list(value.items())
    kept = {cut(str(key), 256): redact(each, inner, str(key), depth + 1) for key, each in pairs[:MAX_ITEMS]}
    if _names_its_value(value):
        kept = {key: HIDDEN if key in ("Value", "value") else each for key, each in kept.items()}
    if len(pairs) > MAX_ITEMS:
        kept["..."] = f"{len(pairs) - MAX_ITEMS} more"
    return kept


def _names_its_value(value: Mapping[Any, Any]) -> bool:
    """``{"Name": "API_KEY", "Value": ...}``."""
    named = value.get("Name", value.get("Key", value.get("name", value.get("key"))))
    return isinstance(named, str) and secret_name(named)


def _items(value: list[Any], shape: Any, name: str, depth: int) -> list[Any]:
    inner = shape.member if shape is not None and shape.type_name == "list" else None
    kept = [redact(each, inner, name, depth + 1) for each in value[:MAX_ITEMS]]
    return [*kept, f"{len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else kept


def _emptied(value: Any) -> Any:
    """The keys of a mapping, such as the names of environment variables; nothing else."""
    if isinstance(value, Mapping):
        return {cut(str(key), 256): HIDDEN for key in list(value)[:MAX_ITEMS]}
    return HIDDEN


def _small(name: str) -> str:
    return name[:1].lower() + name[1:]


def cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size]}... ({len(text)} characters)"


_TELLING = 8
"""Characters that show a hidden value again."""


def message_without(message: str, request: Any, kept: Any) -> str:
    """An error's message, or a note in its place when it repeats what `kept` does not have of `request`."""
    shown = canonical_text(kept)
    for text in _texts(request):
        part = text[:_TELLING]
        if len(part) >= 4 and part not in shown and any(each in message for each in (part, _escaped(part))):
            return "The message is left out: it repeats a value that the log does not keep."
    return message


def canonical_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value

"""A request against its input shape: the right types, then every constraint, in AWS's words.

`read` gives the request with only the members that the shape has and without nulls. Timestamps stay
seconds since 1970; a blob becomes bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from server.control.patterns import Patience
from server.errors import BadRequest, Unreadable

_RANGES = {"integer": 2**31, "long": 2**63}
_EARLIEST, _LATEST = -62135596800.0, 253402300799.0
"""Years 1 to 9999, in seconds since 1970."""
SHOWN = 256
"""Characters of an offending value that a message repeats."""
MAX_PROBLEMS = 100
"""Violated constraints that one message names."""


def read(shape: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Unreadable for a wrong type, BadRequest with all violated constraints."""
    found = dict(_typed(shape, request)) if shape is not None else {}
    problems = list(islice(_structure(shape, found, "", Patience()), MAX_PROBLEMS)) if shape is not None else []
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
        raise BadRequest(count + "; ".join(problem.text for problem in problems), field=problems[0].path)
    return found


class Problem:
    """One violated constraint: where, and what AWS says about it."""

    def __init__(self, shape: Any, value: Any, path: str, constraint: str) -> None:
        self.path = path
        shown = "" if shape.metadata.get("sensitive") else f" {_shown(value)}"
        self.text = f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}"


def _typed(shape: Any, value: Any) -> Any:
    return _READERS[shape.type_name](shape, value)


def _read_structure(shape: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Unreadable(f"{_json_name(value)} found where the structure {shape.name} was expected.")
    return {
        name: _typed(member, value[name])
        for name, member in shape.members.items()
        if value.get(name) is not None
    }  # fmt: skip


def _read_list(shape: Any, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Unreadable(f"{_json_name(value)} can not be converted to a List")
    return [_typed(shape.member, item) for item in value if item is not None]


def _read_map(shape: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Unreadable(f"{_json_name(value)} can not be converted to a Map")
    return {_typed(shape.key, key): _typed(shape.value, item) for key, item in value.items() if item is not None}


def _read_string(_shape: Any, value: Any) -> str:
    if not isinstance(value, str):
        raise Unreadable(f"{_json_name(value)} can not be converted to a String")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable("A string holds half of a surrogate pair.") from None
    return value


def _read_whole(shape: Any, value: Any) -> int:
    kind, limit = shape.type_name, _RANGES[shape.type_name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"{_json_name(value)} can not be converted to {_article(kind)}")
    if not -limit <= value < limit:  # infinities and what is no number too
        raise Unreadable(f"{_json_name(value)} can not be converted to {_article(kind)}")
    if value != int(value):
        raise Unreadable(f"{value} can not be converted to {_article(kind)}")
    return int(value)


def _read_number(shape: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"{_json_name(value)} can not be converted to {_article(shape.type_name)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Unreadable(f"{_json_name(value)} is out of range for {_article(shape.type_name)}")
    return number


def _read_moment(shape: Any, value: Any) -> float:
    seconds = _read_number(shape, value)
    if not _EARLIEST <= seconds <= _LATEST:
        raise Unreadable(f"{value} is no time between the years 1 and 9999")
    return seconds


def _read_flag(_shape: Any, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unreadable(f"{_json_name(value)} can not be converted to a Boolean")
    return value


def _read_blob(_shape: Any, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise Unreadable(f"{_json_name(value)} can not be converted to a Blob")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise Unreadable("A blob is not in base64.") from None


_READERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "structure": _read_structure,
    "list": _read_list,
    "map": _read_map,
    "string": _read_string,
    "integer": _read_whole,
    "long": _read_whole,
    "float": _read_number,
    "double": _read_number,
    "timestamp": _read_moment,
    "boolean": _read_flag,
    "blob": _read_blob,
}


def _structure(shape: Any, value: Mapping[str, Any], path: str, patience: Patience) -> Iterator[Problem]:
    for name in shape.required_members:
        if name not in value:
            yield Problem(shape.members[name], None, _join(path, name), "Member must not be null")
    if shape.is_tagged_union and len(value) != 1:
        known = ", ".join(shape.members)
        yield Problem(shape, value, path, f"Member must have exactly one of the following set: [{known}]")
    for name, member in value.items():
        yield from _value(shape.members[name], member, _join(path, name), patience)


def _value(shape: Any, value: Any, path: str, patience: Patience) -> Iterator[Problem]:
    for constraint in broken(shape, value, patience):
        yield Problem(shape, value, path, constraint)
    if shape.type_name == "structure":
        yield from _structure(shape, value, path, patience)
    elif shape.type_name == "list":
        yield from _items(shape, value, path, patience)
    elif shape.type_name == "map":
        yield from _entries(shape, value, path, patience)


def _items(shape: Any, value: list[Any], path: str, patience: Patience) -> Iterator[Problem]:
    if shape.member.type_name in ("structure", "list", "map"):
        for number, item in enumerate(value, 1):
            yield from _value(shape.member, item, f"{path}.{number}.member", patience)
    elif any(True for item in value for _ in broken(shape.member, item, patience)):
        yield Problem(shape, value, path, f"Member must satisfy constraint: [{', '.join(constraints(shape.member))}]")


def _entries(shape: Any, value: Mapping[str, Any], path: str, patience: Patience) -> Iterator[Problem]:
    if any(True for key in value for _ in broken(shape.key, key, patience)):
        yield Problem(shape, value, path, f"Map keys must satisfy constraint: [{', '.join(constraints(shape.key))}]")
    if shape.value.type_name in ("structure", "list", "map"):
        for key, item in value.items():
            yield from _value(shape.value, item, f"{path}.{key}.member", patience)
    elif any(True for item in value.values() for _ in broken(shape.value, item, patience)):
        rules = ", ".join(constraints(shape.value))
        yield Problem(shape, value, path, f"Map value must satisfy constraint: [{rules}]")


def broken(shape: Any, value: Any, patience: Patience) -> Iterator[str]:
    """The constraints of `shape` itself that `value` breaks."""
    yield from (words for words, holds in _rules(shape, patience) if not holds(value))


def constraints(shape: Any) -> list[str]:
    """All constraints of `shape` itself, as AWS words them."""
    return [words for words, _ in _rules(shape, Patience())]


def _rules(shape: Any, patience: Patience) -> Iterator[tuple[str, Callable[[Any], bool]]]:
    facts = shape.metadata
    sized = shape.type_name in ("string", "list", "map", "blob")
    what = "length" if sized else "value"
    if "max" in facts:
        high = facts["max"]
        yield f"Member must have {what} less than or equal to {high}", lambda v: _size(v, sized) <= high
    if "min" in facts:
        low = facts["min"]
        yield f"Member must have {what} greater than or equal to {low}", lambda v: _size(v, sized) >= low
    if "pattern" in facts:
        pattern = facts["pattern"]
        yield f"Member must satisfy regular expression pattern: {pattern}", lambda v: patience.matches(pattern, v)
    if getattr(shape, "enum", None):
        known = shape.enum
        yield f"Member must satisfy enum value set: [{', '.join(known)}]", lambda v: v in known


def _size(value: Any, sized: bool) -> Any:
    return len(value) if sized else value


def _join(path: str, name: str) -> str:
    """Members in messages begin with a small letter."""
    own = name[:1].lower() + name[1:]
    return f"{path}.{own}" if path else own


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_no_json)
    return f"'{text if len(text) <= SHOWN else text[:SHOWN] + '...'}'"


def _no_json(value: Any) -> str:
    return f"{len(value)} bytes"


def _json_name(value: Any) -> str:
    """What the JSON held, as AWS's parser calls it."""
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    if isinstance(value, int | float):
        return "NUMBER_VALUE"
    if isinstance(value, str):
        return "STRING_VALUE"
    return "Start of list" if isinstance(value, list) else "Start of structure or map"


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind.capitalize()}"

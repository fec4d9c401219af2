"""Schemas, grammars and choice lists: bounded before an engine compiles them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from server.errors import BadRequest
from server.spec import Limits

IN_PLACE = ("allOf", "anyOf", "oneOf")
"""Keywords whose subschemas apply to the same value; a `$ref` loop through them never ends."""


def check_size(value: Any, field: str, limits: Limits) -> None:
    """`value` as sent must not exceed `max_schema_bytes`."""
    size = len(value) if isinstance(value, str) else len(json.dumps(value, ensure_ascii=False))
    if size > limits.max_schema_bytes:
        raise BadRequest(f"{field} has {size} bytes; at most {limits.max_schema_bytes} are allowed", field=field)


def check_schemas(value: Any, field: str, limits: Limits) -> None:
    """Checks the size of `value`, and every JSON schema in it: those under `schema`, `json` and
    `parameters`, wherever an OpenAI body puts them."""
    check_size(value, field, limits)
    for root in _roots(value):
        _check_references(root, field)


def _roots(value: Any) -> Iterator[Any]:
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack += each
        elif isinstance(each, dict):
            for key, inner in each.items():
                if key in ("schema", "json", "parameters", "input_schema"):
                    yield from _schema(inner)
                elif isinstance(inner, dict | list):
                    stack.append(inner)


def _schema(value: Any) -> Iterator[Any]:
    """A schema may be sent as text; text that is no JSON is left to the engine, which says so."""
    if isinstance(value, str) and "$ref" in value:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    if isinstance(value, dict):
        yield value


def _check_references(root: dict[str, Any], field: str) -> None:
    """Every `$ref` must point into `root`, and none may lead back to itself without descending into the
    value: such a schema says nothing, and compilers run into it. Trees and lists that recurse are fine."""
    finished: set[int] = set()
    for start in _nodes(root):
        if id(start) not in finished:
            _walk(start, root, finished, field)


def _walk(start: dict[str, Any], root: dict[str, Any], finished: set[int], field: str) -> None:
    """Depth-first through what applies in place, without recursion: chains can be long."""
    path = {id(start)}
    stack = [(start, _in_place(start, root, field))]
    while stack:
        node, rest = stack[-1]
        following = next(rest, None)
        if following is None:
            stack.pop()
            path.discard(id(node))
            finished.add(id(node))
        elif id(following) in path:
            raise BadRequest(f"{field} has a $ref loop that never ends", field=field)
        elif id(following) not in finished:
            path.add(id(following))
            stack.append((following, _in_place(following, root, field)))


def _in_place(node: dict[str, Any], root: dict[str, Any], field: str) -> Iterator[dict[str, Any]]:
    reference = node.get("$ref")
    if isinstance(reference, str):
        target = _resolve(reference, root, field)
        if isinstance(target, dict):
            yield target
    for keyword in IN_PLACE:
        several = node.get(keyword)
        if isinstance(several, list):
            yield from (each for each in several if isinstance(each, dict))


def _resolve(reference: str, root: dict[str, Any], field: str) -> Any:
    if not reference.startswith("#"):
        raise BadRequest(f"{field} has a $ref to {reference[:100]}; only references within it are allowed", field=field)
    node: Any = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            raise BadRequest(f"{field} has a $ref to {reference[:100]}, which is not there", field=field)
    return node


def _nodes(root: Any) -> Iterator[dict[str, Any]]:
    stack = [root]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            yield each
            stack += each.values()
        elif isinstance(each, list):
            stack += each

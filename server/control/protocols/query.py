"""AWS's query protocol: a form with dotted names in, XML out.

https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from server.control.failures import Failure
from server.control.reply import Reply
from server.control.service import Service
from server.errors import Unreadable

MAX_FIELDS = 10_000
MAX_DEPTH = 32

_Tree = dict[str, Any]
"""A form's fields by the parts of their names; a leaf is text."""


def form(body: bytes) -> dict[str, str]:
    """A form's fields; of a name that comes twice, the last. Raises Unreadable."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise Unreadable(f"The body is not a form in UTF-8 of at most {MAX_FIELDS} fields.") from None


class Query:
    def parse(self, service: Service, operation: str, body: bytes) -> Mapping[str, Any]:
        """Names that the operation's input does not have are passed over, as AWS does."""
        shape = service.input(operation)
        return {} if shape is None else _structure(shape, _tree(form(body)))

    def answer(self, service: Service, operation: str, document: Mapping[str, Any], request_id: str) -> Reply:
        root = ElementTree.Element(f"{operation}Response", xmlns=service.namespace)
        shape = service.output(operation)
        if shape is not None:
            wrapper = shape.serialization.get("resultWrapper")
            _fill(ElementTree.SubElement(root, wrapper) if wrapper else root, shape, document)
        meta = ElementTree.SubElement(root, "ResponseMetadata")
        ElementTree.SubElement(meta, "RequestId").text = request_id
        return _reply(200, root, request_id)

    def failure(self, service: Service, failed: Failure, request_id: str) -> Reply:
        root = ElementTree.Element("ErrorResponse", xmlns=service.namespace)
        error = ElementTree.SubElement(root, "Error")
        sender = "Sender" if failed.query_status < 500 else "Receiver"
        for name, text in (("Type", sender), ("Code", failed.query_code), ("Message", failed.message)):
            ElementTree.SubElement(error, name).text = _legal(text)
        ElementTree.SubElement(root, "RequestId").text = request_id
        return _reply(failed.query_status, root, request_id)


def _reply(status: int, root: ElementTree.Element, request_id: str) -> Reply:
    headers = {"x-amzn-RequestId": request_id, "content-type": "text/xml"}
    return Reply(status, ElementTree.tostring(root, encoding="utf-8"), headers)


def _tree(fields: Mapping[str, str]) -> _Tree:
    tree: _Tree = {}
    for name, value in fields.items():
        parts = name.split(".")
        if len(parts) > MAX_DEPTH:
            raise Unreadable(f"{name[:64]}...: nested too deeply.")
        here = tree
        for part in parts[:-1]:
            below = here.setdefault(part, {})
            if not isinstance(below, dict):
                raise Unreadable(f"{name}: {part} is a value already.")
            here = below
        if isinstance(here.get(parts[-1]), dict):
            raise Unreadable(f"{name} has members already.")
        here[parts[-1]] = value
    return tree


def _structure(shape: Any, tree: _Tree) -> dict[str, Any]:
    named = ((name, member, member.serialization.get("name", name)) for name, member in shape.members.items())
    return {name: _value(member, tree[wire], wire) for name, member, wire in named if wire in tree}


def _value(shape: Any, given: Any, name: str) -> Any:
    kind = shape.type_name
    if kind in ("structure", "list", "map"):
        if given == "":  # an empty list travels as an empty field
            return {} if kind != "list" else []
        if not isinstance(given, dict):
            raise Unreadable(f"{name} must have members.")
        return _GROUPS[kind](shape, given)
    if isinstance(given, dict):
        raise Unreadable(f"{name} must be a value.")
    return _LEAVES.get(kind, _text)(given, name)


def _list(shape: Any, tree: _Tree) -> list[Any]:
    if not shape.serialization.get("flattened"):
        tree = _below(tree, shape.member.serialization.get("name", "member"))
    return [_value(shape.member, item, number) for number, item in _numbered(tree)]


def _map(shape: Any, tree: _Tree) -> dict[str, Any]:
    if not shape.serialization.get("flattened"):
        tree = _below(tree, "entry")
    key = shape.key.serialization.get("name", "key")
    value = shape.value.serialization.get("name", "value")
    found = {}
    for number, item in _numbered(tree):
        if not isinstance(item, dict) or not isinstance(item.get(key), str):
            raise Unreadable(f"entry {number} needs a {key}.")
        found[item[key]] = _value(shape.value, item.get(value, ""), item[key])
    return found


def _below(tree: _Tree, name: str) -> _Tree:
    found = tree.get(name, {})
    if not isinstance(found, dict):
        raise Unreadable(f"{name} must be numbered.")
    return found


def _numbered(tree: _Tree) -> list[tuple[str, Any]]:
    if not all(number.isascii() and number.isdigit() for number in tree):
        raise Unreadable("The members of a list are numbered.")
    return sorted(tree.items(), key=lambda pair: int(pair[0][:9]))


_GROUPS: Mapping[str, Callable[[Any, _Tree], Any]] = {"structure": _structure, "list": _list, "map": _map}


def _text(given: str, _name: str) -> str:
    return given


def _whole(given: str, name: str) -> int:
    digits = given.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        raise Unreadable(f"{name}: {given[:64]!r} is no whole number.")
    return int(given)


def _number(given: str, name: str) -> float:
    try:
        found = float(given)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise Unreadable(f"{name}: {given[:64]!r} is no number.")
    return found


def _flag(given: str, name: str) -> bool:
    if given.lower() not in ("true", "false"):
        raise Unreadable(f"{name}: {given[:64]!r} is neither true nor false.")
    return given.lower() == "true"


def _moment(given: str, name: str) -> float:
    try:
        found = datetime.fromisoformat(given)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Unreadable(f"{name}: {given[:64]!r} is no time in ISO 8601.") from None


_LEAVES: Mapping[str, Callable[[str, str], Any]] = {
    "integer": _whole, "long": _whole, "float": _number, "double": _number, "boolean": _flag, "timestamp": _moment,
}  # fmt: skip


def _fill(element: ElementTree.Element, shape: Any, value: Any) -> None:
    kind = shape.type_name
    if kind == "structure":
        for name, item in value.items():
            member = shape.members[name]
            _child(element, member.serialization.get("name", name), member, item)
    elif kind == "list":
        for item in value:
            _fill(ElementTree.SubElement(element, shape.member.serialization.get("name", "member")), shape.member, item)
    elif kind == "map":
        for key, item in value.items():
            _entry(ElementTree.SubElement(element, "entry"), shape, key, item)
    else:
        element.text = _written(shape, value)


def _child(element: ElementTree.Element, name: str, shape: Any, value: Any) -> None:
    if not shape.serialization.get("flattened"):
        _fill(ElementTree.SubElement(element, name), shape, value)
    elif shape.type_name == "list":
        for item in value:
            _fill(ElementTree.SubElement(element, name), shape.member, item)
    else:
        for key, item in value.items():
            _entry(ElementTree.SubElement(element, name), shape, key, item)


def _entry(entry: ElementTree.Element, shape: Any, key: str, value: Any) -> None:
    ElementTree.SubElement(entry, shape.key.serialization.get("name", "key")).text = _legal(key)
    _fill(ElementTree.SubElement(entry, shape.value.serialization.get("name", "value")), shape.value, value)


def _written(shape: Any, value: Any) -> str:
    if shape.type_name == "timestamp":
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return _legal(str(value))


def _legal(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return "".join(c for c in text if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff" and c < "\ufffe")
                   or c > "\uffff")  # fmt: skip


QUERY = Query()

"""Request bodies: read from the wire, and parsed as JSON in bounded time and memory."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from server.errors import BadRequest, BodyTooLarge

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""One that does not end goes to the end of the body, so that no byte is looked at twice."""
_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


PARSED = "hearth.document"
"""Key of the scope's state under which the guard leaves a body that it has parsed."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Raises BodyTooLarge as soon as more than `max_bytes` came, whatever length was announced."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    chunks = [body]
    size = len(body)
    while message.get("more_body", False) and size <= max_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if size > max_bytes:
        raise BodyTooLarge(f"the request body is larger than {max_bytes} bytes")
    return body if len(chunks) == 1 else b"".join(chunks)


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"the body is not valid JSON: {name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_object(body: bytes, max_depth: int) -> dict[str, Any]:
    """The JSON object in `body`. Raises BadRequest as `parse_value` does, and for what is no object."""
    document = parse_value(body, max_depth)
    if not isinstance(document, dict):
        raise BadRequest(f"the body must be a JSON object, not {json_type(document)}")
    return document


def parse_value(body: bytes, max_depth: int) -> Any:
    """The JSON value in `body`. Raises BadRequest for what is not UTF-8, not JSON or nested deeper than
    `max_depth`, and for text that has no UTF-8 form (lone surrogates)."""
    if deeper_than(body, max_depth):
        raise BadRequest(f"the JSON body is nested deeper than {max_depth} levels")
    try:
        document = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} cannot be decoded") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"the body is not valid JSON: {error.msg} ({where})") from None
    except RecursionError:
        raise BadRequest("the JSON body is nested too deeply") from None
    except ValueError:
        raise BadRequest("the body is not valid JSON: a number has too many digits") from None
    if _SURROGATE.search(body):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRequest("the body holds text that is not valid Unicode (a lone surrogate)") from None
    return document


def document_of(scope: Scope, body: bytes, max_depth: int) -> dict[str, Any]:
    """`parse_object`, unless the guard has parsed this body already."""
    parsed: dict[str, Any] | None = scope.get("state", {}).get(PARSED)
    return parse_object(body, max_depth) if parsed is None else parsed


def deeper_than(body: bytes, depth: int) -> bool:
    """Whether brackets outside strings nest deeper than `depth`. Needs no recursion and no parser: each pass
    takes away the innermost level."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    brackets = _STRINGS.sub(b"", body).translate(_AS_BRACKETS, _NOT_BRACKETS)
    for _ in range(depth):
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    return brackets.count(b"[") > depth or b"[]" in brackets


def json_type(value: object) -> str:
    """What JSON calls `value`, with its article."""
    if value is None:
        return "null"
    names: dict[type, str] = {
        bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array", dict: "an object"
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)

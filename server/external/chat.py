"""Chats between OpenAI's form, which callers write, and what other providers take: a conversation, and parts of the
answer to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.errors import BadRequest

Body = Mapping[str, Any]
"""OpenAI's chat completion request without `model` and `stream`."""

_DATA_URL = re.compile(r"data:image/(png|jpeg|gif|webp);base64,(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counts them."""

    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """What an answer gained. `choices` as in OpenAI's chunks; of an answer that came whole, each with all its delta."""

    choices: tuple[Mapping[str, Any], ...] = ()
    usage: Usage | None = None


def choice(delta: Mapping[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def tool_call(id: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A whole one, as OpenAI's messages have it: its arguments are a text."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    format: str
    """png, jpeg, gif or webp."""
    data: str
    """Base64."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    id: str
    text: str


Part = Text | Image | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Turn:
    role: str
    """user or assistant; what tools found is the user's."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """None: not said."""

    system: str
    turns: tuple[Turn, ...]
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    """auto, none, required, or a tool's name after `=`."""


_TAKEN = frozenset(
    "messages max_tokens max_completion_tokens temperature top_p top_k stop tools tool_choice n stream stream_options "
    "model user metadata store parallel_tool_calls".split()
)
_NOTHING: tuple[Any, ...] = (None, False, 0, 0.0, [], {})
"""Values that ask for nothing."""


def conversation(body: Body, default_tokens: int, provider: str) -> Conversation:
    """Raises BadRequest that names what `provider` has no form for: nothing is left out silently."""
    for name, value in body.items():
        if name not in _TAKEN and value not in _NOTHING:
            raise BadRequest(f"{name[:100]} is not supported with {provider}", field=name[:100])
    if body.get("n") not in (None, 1):
        raise BadRequest(f"n must be 1 with {provider}", field="n")
    system: list[str] = []
    turns: list[Turn] = []
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list of at least one message", field="messages")
    for message in messages:
        _read(message, system, turns)
    stop = body.get("stop")
    return Conversation(
        system="\n\n".join(system),
        turns=tuple(turns),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or default_tokens,
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        top_k=body.get("top_k"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        tools=tuple(map(_tool, body.get("tools") or ())),
        tool_choice=_tool_choice(body.get("tool_choice")),
    )


def arguments(text: str) -> dict[str, Any]:
    """A tool call's arguments. Raises BadRequest."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRequest("the arguments of a tool call must be a JSON object", field="messages")
    return found


def _read(message: Any, system: list[str], turns: list[Turn]) -> None:
    if not isinstance(message, dict):
        raise BadRequest("each of messages must be an object", field="messages")
    role = message.get("role")
    if role in ("system", "developer"):
        system.append("".join(part.text for part in _parts(message.get("content")) if isinstance(part, Text)))
    elif role == "tool":
        found = "".join(part.text for part in _parts(message.get("content")) if isinstance(part, Text))
        _say(turns, "user", (ToolResult(str(message.get("tool_call_id")), found),))
    elif role in ("user", "assistant"):
        calls = tuple(map(_call, message.get("tool_calls") or ()))
        content = message.get("content")
        _say(turns, role, (*(_parts(content) if content else ()), *calls))
    else:
        raise BadRequest(f"the role {str(role)[:40]!r} is unknown", field="messages")


def _say(turns: list[Turn], role: str, parts: tuple[Part, ...]) -> None:
    """Adds to the last turn where that is of the same role: other providers want them to alternate."""
    if turns and turns[-1].role == role:
        turns[-1] = Turn(role, (*turns[-1].parts, *parts))
    else:
        turns.append(Turn(role, parts))


def _parts(content: Any) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if not isinstance(content, list):
        raise BadRequest("content must be a text or a list of parts", field="messages")
    return tuple(map(_part, content))


def _part(part: Any) -> Part:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return Text(part["text"])
    if kind == "image_url":
        given = part.get("image_url")
        url = given.get("url") if isinstance(given, dict) else given
        if match := _DATA_URL.fullmatch(url if isinstance(url, str) else ""):
            return Image(match[1], match[2])
        raise BadRequest("an image must be a data: URL of a PNG, JPEG, GIF or WebP in base64", field="messages")
    raise BadRequest(f"content parts of type {str(kind)[:40]!r} are not supported here", field="messages")


def _call(call: Any) -> ToolCall:
    try:
        function = call["function"]
        return ToolCall(str(call["id"]), str(function["name"]), arguments(str(function.get("arguments") or "")))
    except (KeyError, TypeError, AttributeError):
        raise BadRequest("a tool call has an id and a function with name and arguments", field="messages") from None


def _tool(tool: Any) -> Tool:
    try:
        function = tool["function"]
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        return Tool(str(function["name"]), str(function.get("description") or ""), schema)
    except (KeyError, TypeError, AttributeError):
        raise BadRequest("each of tools must be a function with a name", field="tools") from None


def _tool_choice(given: Any) -> str | None:
    if given is None or given in ("auto", "none", "required"):
        return given if isinstance(given, str) else None
    try:
        return f"={given['function']['name']}"
    except (KeyError, TypeError):
        raise BadRequest("tool_choice must be auto, none, required or a function", field="tool_choice") from None


def folded(deltas: Sequence[Delta]) -> tuple[list[dict[str, Any]], Usage]:
    """Whole choices, as OpenAI's chat completion has them, of the parts of an answer."""
    found: dict[int, dict[str, Any]] = {}
    usage = Usage()
    for delta in deltas:
        usage = delta.usage or usage
        for each in delta.choices:
            place = found.setdefault(
                each["index"],
                {"index": each["index"], "message": {"role": "assistant", "content": None}, "logprobs": None,
                 "finish_reason": None},
            )  # fmt: skip
            _gain(place["message"], each["delta"])
            place["finish_reason"] = each.get("finish_reason") or place["finish_reason"]
            place["logprobs"] = each.get("logprobs") or place["logprobs"]
    return [found[index] for index in sorted(found)], usage


def _gain(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value or ():
                _gain_call(message.setdefault("tool_calls", []), call)
        elif name == "role" or value is None:
            message.setdefault(name, value)
        elif isinstance(value, str) and isinstance(message.get(name), str):
            message[name] += value
        else:
            message[name] = value


def _gain_call(calls: list[dict[str, Any]], call: Mapping[str, Any]) -> None:
    index = call.get("index", len(calls))
    if index >= len(calls):
        calls.append({name: value for name, value in call.items() if name != "index"})
    else:
        calls[index]["function"]["arguments"] += call.get("function", {}).get("arguments") or ""

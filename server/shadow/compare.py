"""Two answers to one request: are they the same, and if not, how far apart? Pure, and slow enough for a thread.

JSON is compared as what it says, whatever its spacing and the order of its members; an OpenAI answer without what is
new in every answer (its id and time). Streams are compared by all that they carry, not by how it was cut.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

from server.dialects import eventstream
from server.shadow.copies import Answered
from server.shadow.tally import Difference

WORDS = 256
"""Of each text that are compared when two differ: their similarity takes time that rises with the product."""
MOST_NUMBERS = 100_000
_OPENAI = frozenset(("id", "created", "system_fingerprint", "created_at", "completed_at"))
_INNER_TYPE = b"x-amzn-sagemaker-content-type"
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


def compared(production: Answered, shadow: Answered) -> Difference:
    """The two of one request; answers other than 2xx are compared by status alone."""
    statuses = (production.status, shadow.status)
    if not all(200 <= status < 300 for status in statuses):
        return Difference(statuses)
    if production.body is None or shadow.body is None:
        return Difference(statuses)
    if production.body == shadow.body:
        return _same(statuses, _content(production))
    return _different(statuses, _content(production), _content(shadow))


def _same(statuses: tuple[int, int], content: Any) -> Difference:
    if _text(content) is not None:
        return Difference(statuses, True, similarity=1.0)
    return Difference(statuses, True, largest=0.0 if _numbers(content) else None)


def _different(statuses: tuple[int, int], one: Any, other: Any) -> Difference:
    if _canonical(one) == _canonical(other):
        return _same(statuses, one)
    texts = _text(one), _text(other)
    if texts[0] is not None and texts[1] is not None:
        return Difference(statuses, False, similarity=_similarity(texts[0], texts[1]))
    return Difference(statuses, False, largest=_largest(one, other))


def _content(answer: Answered) -> Any:
    """What an answer says: parsed JSON, the events of a stream, text, numbers of a CSV, or bytes."""
    body, media_type = answer.body or b"", answer.header(b"content-type").partition(";")[0].strip().lower()
    if media_type == eventstream.CONTENT_TYPE:
        body, media_type = _joined(body), answer.header(_INNER_TYPE).partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return [_without_times(event) for event in _sent(body)]
    try:
        if media_type == "text/csv":
            return [[float(cell) for cell in line.split(",")] for line in body.decode().splitlines()]
        return _without_times(json.loads(body))
    except (ValueError, RecursionError):
        pass
    try:
        return body.decode() if media_type.startswith("text/") else body
    except UnicodeDecodeError:
        return body


def _joined(body: bytes) -> bytes:
    """The payloads of an AWS event stream."""
    try:
        return b"".join(payload for _, payload in eventstream.events(body))
    except ValueError:
        return body


def _sent(body: bytes) -> Iterator[Any]:
    """The data of server-sent events."""
    for line in body.decode(errors="replace").splitlines():
        if line.startswith("data:"):
            data = line[5:].strip()
            try:
                yield json.loads(data)
            except (ValueError, RecursionError):
                yield data


def _without_times(document: Any) -> Any:
    if isinstance(document, dict) and "object" in document:
        return {name: value for name, value in document.items() if name not in _OPENAI}
    return document


def _canonical(content: Any) -> Any:
    """Of a stream, the text that it makes where it makes one."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, list) and (text := _streamed(content)) is not None:
        return text
    return json.dumps(content, sort_keys=True)


def _text(content: Any) -> str | None:
    """What was generated, if that is what the answer is."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        if (text := _streamed(content)) is not None:
            return text
        told = [text for item in content if isinstance(item, dict) and (text := _text(item)) is not None]
        return "\n".join(told) if told else None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("generated_text"), str):
        return str(content["generated_text"])
    return _chosen(content, "message")


def _streamed(events: list[Any]) -> str | None:
    """The text of a stream's events, put together."""
    parts = [_chosen(event, "delta") for event in events if isinstance(event, dict)]
    tokens = [event["token"]["text"] for event in events if _is_token(event)]
    told = [part for part in parts if part is not None] or tokens
    return "".join(told) if told else None


def _is_token(event: Any) -> bool:
    token = event.get("token") if isinstance(event, dict) else None
    return isinstance(token, dict) and isinstance(token.get("text"), str)


def _chosen(document: dict[str, Any], part: str) -> str | None:
    """The text of an OpenAI answer's, or event's, choices."""
    choices = document.get("choices")
    if not isinstance(choices, list):
        return None
    found = []
    for choice in choices:
        inner = choice.get(part) if isinstance(choice, dict) else None
        text = inner.get("content") if isinstance(inner, dict) else choice.get("text") if choice else None
        found.append(text if isinstance(text, str) else "")
    return "".join(found)


def _similarity(one: str, other: str) -> float:
    """Of the first words, punctuation marks and spaces: twice those in common, in order, over all of them."""
    words, others = (list[str](_TOKEN.findall(text[: 64 * WORDS])[:WORDS]) for text in (one, other))
    return round(difflib.SequenceMatcher(None, words, others, autojunk=False).ratio(), 6)


def _largest(one: Any, other: Any) -> float | None:
    """The largest difference between numbers at the same places; None where there are none, or other places."""
    numbers = _numbers(one), _numbers(other)
    if not numbers[0] or numbers[0].keys() != numbers[1].keys():
        return None
    found = max(abs(value - numbers[1][place]) for place, value in numbers[0].items())
    return found if math.isfinite(found) else None


def _numbers(content: Any) -> dict[tuple[Any, ...], float]:
    """Every number of a document by its place; none where there are too many."""
    found: dict[tuple[Any, ...], float] = {}
    left: list[tuple[tuple[Any, ...], Any]] = [((), content)]
    while left:
        place, value = left.pop()
        if isinstance(value, dict):
            left += [((*place, name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            left += [((*place, index), inner) for index, inner in enumerate(value)]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[place] = float(value) if abs(value) < sys.float_info.max else math.inf
            if len(found) > MOST_NUMBERS:
                return {}
    return found

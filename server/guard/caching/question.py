"""Whether a request's answer may be kept, and the key that it is kept under. Pure.

An answer may be kept when the same request would be answered the same again: what is not known to be so is not kept.
The key is a digest of everything that an answer may depend on, and of whom it is kept for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from server.dialects import generation
from server.dialects.call import SESSION
from server.dialects.documents import PARSED
from server.dialects.openai import BY_BODY
from server.dialects.paths import Kind, Route
from server.dialects.service_model import HEADER_RULES, INVOKE, header_name
from server.errors import BadRequest
from server.spec import Limits

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
"""OpenAI paths whose `seed` vLLM honours; without one they are repeatable at temperature 0."""
MESSAGES = "/v1/messages"
"""Anthropic's; it has no seed."""
DRAWING = (*GENERATING, MESSAGES)
COMPUTING = ("/v1/embeddings", "/v1/rerank", "/v1/score", "/v1/classify", "/v1/pooling")
"""OpenAI paths at which nothing is drawn."""
NOT_THE_ANSWER = frozenset(
    header_name(INVOKE, member, output=False).lower().encode() for member in ("InferenceId", "PrefixAwareId")
)
"""Headers of SageMaker's that no answer depends on."""
_SAGEMAKER = b"x-amzn-sagemaker-"
_NAMED = (b"content-type", b"accept")
_ELSEWHERE = ("previous_response_id",)
"""Fields that make an answer depend on what the engine holds besides."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a replica answers with, as far as that decides about keeping answers."""

    opaque: bool = False
    """Bodies are nobody's business but the engine's."""
    generates: bool = True
    """It draws tokens; other engines compute the same each time."""
    elsewhere: bool = False
    """A provider answers, who promises no more than to try."""
    declared: bool = False
    """Whoever deployed it says that it answers the same request the same each time."""
    limits: Limits = field(default_factory=Limits)


def repeatable(model: Model, route: Route, scope: Scope, body: bytes) -> bool:
    """Whether the same request would be answered the same again, whole."""
    if scope["method"] != "POST" or route.kind not in (Kind.CONTAINER, Kind.RUNTIME, Kind.OPENAI):
        return False
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if not _in_order(headers) or (model.elsewhere and not model.declared):
        return False
    if model.opaque and route.kind is not Kind.OPENAI:
        return model.declared and SESSION not in headers
    document: Mapping[str, Any] | None = scope.get("state", {}).get(PARSED)
    if document is None:
        return route.kind is not Kind.OPENAI and not model.generates
    if document.get("stream") or _fetches(model, body) or any(document.get(name) for name in _ELSEWHERE):
        return False
    if route.kind is Kind.OPENAI:
        return _openai(route.path, document)
    if "inputs" in document:
        return not model.generates or _inputs(document, model.limits)
    paths = next((paths for name, paths in BY_BODY if name in document), ())
    return bool(paths) and all(_openai(path, document) for path in paths)


def key(scope: Scope, body: bytes, keeper: Iterable[str]) -> bytes:
    """`keeper`: whom the answer is kept for."""
    document = scope.get("state", {}).get(PARSED)
    headers = sorted(
        pair for pair in scope["headers"]
        if pair[0] in _NAMED or (pair[0].startswith(_SAGEMAKER) and pair[0] not in NOT_THE_ANSWER | {SESSION})
    )  # fmt: skip
    parts = [each.encode() for each in keeper]
    parts += [scope["path"].encode(), scope.get("query_string", b"")]
    parts += [part for pair in headers for part in pair]
    parts.append(body if document is None else _canonical(document))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _canonical(document: Mapping[str, Any]) -> bytes:
    """Blanks and the order of the outermost fields do not matter. Further in, order may: a tool's schema is shown to
    the model as it was written."""
    return json.dumps(dict(sorted(document.items())), ensure_ascii=False, separators=(",", ":")).encode()


def _openai(path: str, document: Mapping[str, Any]) -> bool:
    if path in COMPUTING:
        return True
    greedy = type(document.get("temperature")) in (int, float) and document["temperature"] == 0
    if path == MESSAGES:
        return greedy
    return path in GENERATING and (greedy or type(document.get("seed")) is int)


def _inputs(document: Mapping[str, Any], limits: Limits) -> bool:
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        return False
    try:
        wanted, _ = generation.parse(parameters, limits)
    except BadRequest:
        return False
    return wanted.temperature == 0 or wanted.seed is not None


def _fetches(model: Model, body: bytes) -> bool:
    """Whether the answer may depend on what another host says."""
    return bool(model.limits.allowed_media_hosts) and b"_url" in body


def _in_order(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the headers that the key leaves out are such that the request is answered at all."""
    if headers.get(SESSION) == b"NEW_SESSION":
        return False
    try:
        for name in NOT_THE_ANSWER | {SESSION}:
            if name in headers:
                HEADER_RULES[name].check(headers[name].decode("latin-1"))
    except BadRequest:
        return False
    return True

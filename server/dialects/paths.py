"""Every address a replica answers at: one list. What is not in it is not reachable."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache


class Kind(Enum):
    """Which dialect an address speaks, and so the shape of its errors."""

    PING = "ping"
    METRICS = "metrics"
    CONTAINER = "container"
    """SageMaker's container contract: the plain status and body of the model."""
    RUNTIME = "runtime"
    """SageMaker Runtime, answered whole."""
    STREAM = "stream"
    """SageMaker Runtime, answered as an AWS event stream."""
    OPENAI = "openai"
    UNKNOWN = "unknown"


ROUTES: tuple[tuple[Kind, tuple[str, ...], re.Pattern[str]], ...] = (
    (Kind.PING, ("GET", "POST"), re.compile(r"/ping")),
    (Kind.METRICS, ("GET",), re.compile(r"/metrics")),
    (Kind.CONTAINER, ("POST",), re.compile(r"/invocations")),
    (Kind.RUNTIME, ("POST",), re.compile(r"/endpoints/(?P<endpoint>[^/]+)/invocations")),
    (Kind.STREAM, ("POST",), re.compile(r"/endpoints/(?P<endpoint>[^/]+)/invocations-response-stream")),
    (
        Kind.OPENAI, ("GET", "POST"),
        re.compile(
            r"(?:/endpoints/(?P<endpoint>[^/]+)(?:/inference-components/(?P<component>[^/]+))?/openai)?"
            r"(?P<path>/v1(?:/.*)?)"
        ),
    ),
)  # fmt: skip
"""Kind, methods and path."""

OPENAI_PATHS = frozenset(
    f"/v1/{name}"
    for name in (
        "chat/completions", "completions", "responses", "embeddings", "rerank", "score", "classify", "pooling",
        "tokenize", "detokenize", "messages", "models",
    )
)  # fmt: skip
"""Paths below `/v1` that are ever handed to a mounted application; each engine has some of them
(`Engines.openai_routes`)."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. `endpoint` and `component` are the names in the path, if it has them; `path` is the address
    as the mounted OpenAI application knows it."""

    kind: Kind
    endpoint: str | None = None
    path: str = ""
    methods: tuple[str, ...] = ()
    component: str | None = None


@lru_cache(maxsize=512)
def route_of(path: str) -> Route:
    for kind, methods, pattern in ROUTES:
        if match := pattern.fullmatch(path):
            found = match.groupdict()
            return Route(kind, found.get("endpoint"), found.get("path", path), methods, found.get("component"))
    return Route(Kind.UNKNOWN, None, path)

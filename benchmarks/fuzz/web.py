"""Hearth's own routes, SageMaker Runtime's, OpenAI's and the container contract's."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

from benchmarks.fuzz import values
from benchmarks.fuzz.wire import Sent
from server.dialects.paths import OPENAI_PATHS
from server.guard.limits import FIELDS, UNCHECKED

ENDPOINTS = ("m", "a", "nobody", "..", "%2e%2e", "m%2finvocations", "a b", "m" * 64, "m%00", "M", "\u00ef")
PAGES = ("/", "/ping", "/metrics", "/v1/models", "/hearth/endpoints", "/hearth/state", "/hearth", "/v1", "/endpoints",
         "/docs", "/openapi.json", "/load", "/scale_elastic_ep", "/is_sleeping", "/.env", "/-/routes")  # fmt: skip
TYPES = ("application/json", "application/json", "application/json", "text/csv", "application/x-npy", "image/png", "",
         "*/*",
         "application/x-image", "application/jsonlines", "application/octet-stream",
         "text/plain; charset=x")  # fmt: skip
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "say a"}]}]}
BODIES: tuple[dict[str, Any], ...] = (
    CHAT,
    {"model": "m", "prompt": "a b", "max_tokens": 3},
    {"model": "m", "prompt": ["a b", "c"], "n": 2, "logprobs": 2, "stop": ["x"]},
    {"model": "m", "input": ["a", "b"]},
    {"model": "m", "query": "a", "documents": ["b", "c"]},
    {"inputs": "a b", "parameters": {"max_new_tokens": 3, "details": True, "top_n_tokens": 2, "stop": ["z"]}},
    {"inputs": ["a", "b"], "parameters": {"temperature": 0.5, "do_sample": True, "seed": 3}, "stream": True},
    {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "tools": [{"type": "function",
    "function": {}}]},
    {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#/a"}}}},
    {**CHAT, "structured_outputs": {"regex": "(a+)+$"}},
    {"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(PIXEL).decode()}}]}]},
)  # fmt: skip
VARIANT: dict[str, Any] = {
    "name": "AllTraffic", "model": "hearth-python-lm", "task": "generate", "weight": 1.0, "env": {"A": "b"},
    "engine": {"max-model-len": 128}, "resources": {"num_cpus": 1}, "scaling": {"min_replicas": 0, "max_replicas": 2},
    "limits": {"max_in_flight": 4},
}  # fmt: skip


def hearth(random: Random) -> Sent:
    """Pages and Hearth's own API."""
    if random.random() < 0.4:
        return Sent("hearth", "door", random.choice((b"GET", b"GET", b"POST", b"HEAD")), random.choice(PAGES).encode())
    path = f"/hearth/endpoints/{_endpoint(random)}".encode()
    method = random.choice((b"PUT", b"PUT", b"PUT", b"GET", b"DELETE"))
    document: Any = random.choice((VARIANT, {"variants": [VARIANT]}, {"variants": [VARIANT, {**VARIANT, "name": "B"}]}))
    return Sent("hearth", "door", method, path, _json(), _dumped(values.bend(document, random, 0.05), random))


def invocation(random: Random) -> Sent:
    """To a replica's guard, and now and then to the door, as for an endpoint that sleeps."""
    target = random.choice(("text", "text", "image", "payload", "door"))
    name = _endpoint(random)
    path = random.choice(("/invocations", f"/endpoints/{name}/invocations",
                         f"/endpoints/{name}/invocations-response-stream",
                          f"/endpoints/{name}/async-invocations"))  # fmt: skip
    kind = random.choice(TYPES)
    body = PIXEL if kind.startswith("image") else _dumped(_bent(random), random)
    if random.random() < 0.1:
        body = random.randbytes(random.choice((0, 1, 100, 70_000)))
    fields = [(b"content-type", kind.encode())] if kind else []
    return Sent("runtime", target, b"POST", path.encode("utf-8"), fields, body)


def openai(random: Random) -> Sent:
    target = random.choice(("text", "text", "text", "door"))
    path = random.choice((*sorted(OPENAI_PATHS), "/v1/files", "/v1/../metrics", "/v1/"))
    if random.random() < 0.3:
        path = f"/endpoints/{_endpoint(random)}/openai{path}"
    method = b"GET" if random.random() < 0.05 else b"POST"
    return Sent("openai", target, method, path.encode("utf-8"), _json(), _dumped(_bent(random), random))


def _bent(random: Random) -> Any:
    body = dict(random.choice(BODIES))
    for _ in range(random.choice((0, 0, 1, 2))):
        body[random.choice((*FIELDS, *UNCHECKED))] = values.anything(random)
    return values.bend(body, random, random.choice((0.0, 0.02, 0.1)))


def _endpoint(random: Random) -> str:
    return random.choice(ENDPOINTS) if random.random() < 0.4 else "m"


def _json() -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json")]


def _dumped(value: Any, random: Random) -> bytes:
    return json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")

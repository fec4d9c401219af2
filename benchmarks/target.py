"""The endpoint under load: where it is, what it speaks, and a request to it as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from benchmarks.client import Origin
from benchmarks.dialects import Ask, Dialect, dialect
from benchmarks.signing import Signer


@dataclass(frozen=True, slots=True)
class Keys:
    """Sign requests with SigV4 for this region; without keys botocore looks for them."""

    region: str
    access_key: str | None = None
    secret_key: str | None = None


@dataclass(frozen=True)
class Target:
    """`model` is the model name (OpenAI) or endpoint name (SageMaker); `extra` is merged into each body."""

    url: str
    model: str
    dialect: str = "openai-completions"
    stream: bool = True
    ignore_eos: bool = True
    api_key: str | None = None
    keys: Keys | None = None
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 600.0

    def spoken(self) -> Dialect:
        return dialect(self.dialect, stream=self.stream, ignore_eos=self.ignore_eos)


class Encoder:
    """Makes requests to a target bytes; unsigned ones are made once per distinct question."""

    def __init__(self, target: Target) -> None:
        self.spoken = target.spoken()
        self.origin = Origin.parse(target.url)
        keys = target.keys
        self._signer = Signer(keys.region, keys.access_key, keys.secret_key) if keys else None
        self._target = target
        self._made: dict[Ask, bytes] = {}

    def encode(self, ask: Ask) -> bytes:
        if self._signer is not None:
            return self._build(ask)
        if ask not in self._made:
            self._made[ask] = self._build(ask)
        return self._made[ask]

    def _build(self, ask: Ask) -> bytes:
        target = self._target
        body = json.dumps(self.spoken.body(target.model, ask) | target.extra).encode()
        path = self.spoken.path(target.model)
        headers = {"Content-Type": "application/json", **target.headers}
        if target.api_key:
            headers["Authorization"] = f"Bearer {target.api_key}"
        if self._signer is not None:
            headers = self._signer.headers(self.origin.base + path, body, headers)
        headers |= {"Host": self.origin.authority, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.origin.prefix}{path} HTTP/1.1\r\n{lines}\r\n".encode() + body

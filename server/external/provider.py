"""What a provider is to those who ask it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.external.chat import Body, Delta, Usage
from server.external.options import ProviderOptions


@dataclass(frozen=True, slots=True)
class Embedded:
    vectors: list[list[float]]
    """One for each text, in their order."""
    usage: Usage


class Provider(Protocol):
    """One model of one provider. Its calls raise ProviderFailed, and BadRequest for what it has no form for."""

    options: ProviderOptions

    def chat(self, body: Body, *, stream: bool) -> AsyncGenerator[Delta, None]:
        """Parts of an answer as they come, or, not streamed, in one piece. The last one has the usage, where the
        provider tells it."""
        ...

    async def embed(self, texts: Sequence[str], dimensions: int | None) -> Embedded: ...

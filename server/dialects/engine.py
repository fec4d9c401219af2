"""What a dialect may ask of whatever answers behind it.

A replica's engine has one or more of these faces; a dialect finds out by which attribute of
`Engines` is set, never by the engine's type.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from starlette.types import ASGIApp

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Generation:
    """Parameters of one text generation, already validated (see `server.dialects.generation`).

    The names are vLLM's; `seed`, `top_k=-1`, `top_p=1`, `min_p=0` mean "off" as there.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None
    """Number of top alternatives per token; 0 gives the chosen token's own; None gives none."""
    prompt_logprobs: bool = False
    ignore_eos: bool = False
    truncate: int | None = None
    """Keep only this many last tokens of the prompt."""
    adapter: str = ""
    """Name of the adapter to generate with; empty: the model as it is."""


@dataclass(frozen=True, slots=True)
class Token:
    id: int
    text: str
    logprob: float | None
    special: bool = False
    top: tuple[tuple[int, str, float], ...] = ()
    """Alternatives as (id, text, logprob), best first."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one choice gained since its last step."""

    index: int
    """Which of the `n` choices."""
    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    """The stop string or token id that ended it, if one did."""
    prompt_tokens: int = 0
    prompt: tuple[Token, ...] = ()
    """Filled in the first step when `prompt_logprobs` was asked for."""


class TextEngine(Protocol):
    """Generates text. Closing the iterator aborts the request and frees its KV memory."""

    def generate(self, prompt: str, parameters: Generation, request_id: str) -> AsyncIterator[Step]:
        """Raises PromptTooLong, BadRequest or ModelFailed."""
        ...


class EmbeddingEngine(Protocol):
    async def embed(self, texts: Sequence[str], request_id: str) -> list[list[float]]:
        """One vector per text. Raises PromptTooLong or ModelFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label for one image; `box` is (xmin, ymin, xmax, ymax) in pixels for detections."""

    label: str
    score: float
    box: tuple[float, float, float, float] | None = None


class ImageEngine(Protocol):
    async def predict(
        self, images: Sequence[bytes], parameters: Mapping[str, Any], request_id: str
    ) -> list[list[Prediction]]:
        """Encoded images (JPEG, PNG, ...) in; predictions per image, best first.

        `parameters`: `top_k` (int, classification) and `threshold` (float in [0, 1]).
        Raises BadRequest for what is no image, or one with too many pixels.
        """
        ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """One request as it came: a body that only the engine understands. `content_type` and `accept` are as the
    client wrote them, "" where it did not; the names of `headers` are in lower case."""

    body: bytes
    content_type: str
    accept: str
    headers: Mapping[str, str]
    request_id: str
    streams: bool = False
    """Whether the client takes the answer in parts; whoever did not ask gets the parts as one body."""


class Parts(Protocol):
    """An answer that comes bit by bit. Whoever stops before its end must close it."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Says that nobody reads on; the engine ends what it can. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes | Parts
    content_type: str

    async def whole(self) -> bytes:
        """The body, its parts put together. Raises what ended them early."""
        if isinstance(self.body, bytes):
            return self.body
        async with aclosing(self.body) as parts:
            return b"".join([part async for part in parts])


class PayloadEngine(Protocol):
    """Answers bodies of whatever content type the model takes."""

    async def invoke(self, invocation: Invocation) -> Answer:
        """Raises UnsupportedMedia for a content type or Accept that it does not know, BadRequest, ModelFailed
        or Unavailable; so may the parts of its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Engines:
    """The faces of one replica's engine. `openai` is a mounted ASGI app that speaks `/v1/*`. `payload` stands
    alone: with it, bodies are nobody's business but the engine's."""

    text: TextEngine | None = None
    embedding: EmbeddingEngine | None = None
    image: ImageEngine | None = None
    payload: PayloadEngine | None = None
    openai: ASGIApp | None = None
    openai_routes: frozenset[str] = field(default_factory=frozenset)
    """Paths below `openai` that this model can answer, e.g. ``/v1/chat/completions``."""
    targets: tuple[str, ...] = ()
    """Host names of the containers that an invocation must choose from; none: it must not choose."""
    many: tuple[str, ...] = ()
    """Host names of the containers that hold many models, so that an invocation must name one (TargetModel); "" for a
    container without a name."""
    capacity: int | None = None
    """Answers that it makes good use of at once; more would only wait inside. None: it does not say."""

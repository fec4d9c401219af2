"""Text generation as text-generation-inference answers it: arrays of `generated_text`, and its SSE lines.

One input gives an array with an entry per answer (`n`, 1 unless asked for); a list of inputs gives an
array of such arrays, as Hugging Face's pipelines do. A stop string is not part of the text.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from server.dialects.engine import Generation, Step, TextEngine, Token
from server.dialects.generation import Presentation
from server.errors import BadRequest, HearthError, ModelFailed

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


@dataclass(slots=True)
class _Choice:
    """One answer as it grows."""

    text: list[str] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None

    def add(self, step: Step) -> None:
        self.text.append(step.text)
        self.tokens += step.tokens
        if step.finish_reason is not None:
            self.finish = finish_reason(step)

    @property
    def logprob(self) -> float:
        return sum(token.logprob or 0.0 for token in self.tokens)


def finish_reason(step: Step) -> str:
    """Raises ModelFailed when the engine gave the request up."""
    if step.finish_reason == "length":
        return "length"
    if step.finish_reason == "stop":
        return "stop_sequence" if isinstance(step.stop_reason, str) else "eos_token"
    raise ModelFailed("the engine aborted the request")


async def answer(
    engine: TextEngine, inputs: str | Sequence[str], generation: Generation, shown: Presentation, request_id: str
) -> list[Any]:
    """The body of a whole answer. A failing input fails them all, and ends the others."""
    if isinstance(inputs, str):
        return await _one(engine, inputs, generation, shown, request_id)
    tasks = [
        asyncio.ensure_future(_one(engine, prompt, generation, shown, f"{request_id}-{index}"))
        for index, prompt in enumerate(inputs)
    ]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _one(
    engine: TextEngine, prompt: str, generation: Generation, shown: Presentation, request_id: str
) -> list[dict[str, Any]]:
    choices = [_Choice() for _ in range(generation.n)]
    prefill: tuple[Token, ...] = ()
    async with aclosing(_generate(engine, prompt, generation, request_id)) as steps:
        async for step in steps:
            choices[step.index].add(step)
            prefill = prefill or step.prompt
    if any(choice.finish is None for choice in choices):
        raise ModelFailed("the engine ended before the answer was complete")
    if len(choices) > shown.n:
        choices.sort(key=lambda choice: choice.logprob, reverse=True)
    others = [_sequence(choice, prompt, prefill, shown) for choice in choices[shown.n :]]
    return [_entry(choice, prompt, prefill, others, shown) for choice in choices[: shown.n]]


def _entry(
    choice: _Choice, prompt: str, prefill: Sequence[Token], others: list[dict[str, Any]], shown: Presentation
) -> dict[str, Any]:
    entry: dict[str, Any] = {"generated_text": _text(choice, prompt, shown)}
    if shown.details:
        entry["details"] = _details(choice, prefill, shown)
        if others:
            entry["details"]["best_of_sequences"] = others
    return entry


def _sequence(choice: _Choice, prompt: str, prefill: Sequence[Token], shown: Presentation) -> dict[str, Any]:
    return {"generated_text": _text(choice, prompt, shown), **_details(choice, prefill, shown)}


def _text(choice: _Choice, prompt: str, shown: Presentation) -> str:
    return (prompt if shown.return_full_text else "") + "".join(choice.text)


def _details(choice: _Choice, prefill: Sequence[Token], shown: Presentation) -> dict[str, Any]:
    details: dict[str, Any] = {
        "finish_reason": choice.finish,
        "generated_tokens": len(choice.tokens),
        "seed": shown.seed,
        "prefill": [{"id": token.id, "text": token.text, "logprob": _finite(token.logprob)} for token in prefill],
        "tokens": [_token(token, token.text) for token in choice.tokens],
    }
    if shown.top_n_tokens:
        details["top_tokens"] = [_top(token, shown.top_n_tokens) for token in choice.tokens]
    return details


def _token(token: Token, text: str) -> dict[str, Any]:
    return {"id": token.id, "text": text, "logprob": _finite(token.logprob), "special": token.special}


def _top(token: Token, most: int) -> list[dict[str, Any]]:
    """Alternatives; engines say only of the chosen token whether it is special."""
    return [
        {"id": id_, "text": text, "logprob": _finite(logprob), "special": token.special and id_ == token.id}
        for id_, text, logprob in token.top[:most]
    ]


def _finite(logprob: float | None) -> float | None:
    """JSON has no infinity."""
    return logprob if logprob is not None and math.isfinite(logprob) else None


async def stream(
    engine: TextEngine, prompt: str, generation: Generation, shown: Presentation, request_id: str
) -> AsyncGenerator[bytes, None]:
    """Server-sent events, one per token. The texts of all tokens together are the generated text; the last
    event carries that text, and the details when they were asked for."""
    choice = _Choice()
    prompt_tokens = 0
    async with aclosing(_generate(engine, prompt, generation, request_id)) as steps:
        async for step in steps:
            start = len(choice.tokens)
            choice.add(step)
            prompt_tokens = prompt_tokens or step.prompt_tokens
            events = _events(step, start, choice, shown)
            if choice.finish is not None:
                _finish(events[-1], choice, prompt, prompt_tokens, shown)
            if events:
                yield b"".join(map(_sse, events))
            if choice.finish is not None:
                return
    raise ModelFailed("the engine ended before the answer was complete")


def _events(step: Step, start: int, choice: _Choice, shown: Presentation) -> list[dict[str, Any]]:
    """An event per token of `step`; `start` tokens came before. Text or an end that comes without a token
    is told on the token before it."""
    tokens = step.tokens
    if not tokens:
        if not step.text and choice.finish is None:
            return []
        last = choice.tokens[-1] if choice.tokens else Token(0, "", None)
        return [{"index": max(start, 1), "token": _token(last, step.text), "generated_text": None, "details": None}]
    texts = [token.text for token in tokens]
    if len(tokens) == 1 or "".join(texts) != step.text:
        texts = [""] * (len(tokens) - 1) + [step.text]
    events = []
    for index, (token, text) in enumerate(zip(tokens, texts, strict=True), start=start + 1):
        event = {"index": index, "token": _token(token, text), "generated_text": None, "details": None}
        if shown.top_n_tokens:
            event["top_tokens"] = _top(token, shown.top_n_tokens)
        events.append(event)
    return events


def _finish(event: dict[str, Any], choice: _Choice, prompt: str, prompt_tokens: int, shown: Presentation) -> None:
    event["generated_text"] = _text(choice, prompt, shown)
    if shown.details:
        event["details"] = {
            "finish_reason": choice.finish,
            "generated_tokens": len(choice.tokens),
            "seed": shown.seed,
            "input_length": prompt_tokens,
        }


def _sse(event: Mapping[str, Any]) -> bytes:
    return b"data:" + _ENCODER.encode(event).encode(errors="replace") + b"\n\n"


async def _generate(
    engine: TextEngine, prompt: str, generation: Generation, request_id: str
) -> AsyncGenerator[Step, None]:
    """The engine's steps; closing this closes the engine's iterator, which aborts the request."""
    steps = engine.generate(prompt, generation, request_id)
    try:
        async for step in steps:
            yield step
    finally:
        if close := getattr(steps, "aclose", None):
            await close()


def prompts(inputs: Any, max_batch: int, choices: int, *, stream: bool) -> str | list[str]:
    """`inputs` of a body, checked."""
    if isinstance(inputs, str):
        if not inputs:
            raise BadRequest("inputs must not be empty", field="inputs")
        return inputs
    if not isinstance(inputs, list) or not inputs or not all(isinstance(each, str) and each for each in inputs):
        raise BadRequest("inputs must be a string or a list of strings, none of them empty", field="inputs")
    if stream:
        raise BadRequest("inputs must be one string when the answer is a stream", field="inputs")
    if len(inputs) * choices > max_batch:
        count = f"{len(inputs)} inputs" + (f" with {choices} answers each" if choices > 1 else "")
        raise BadRequest(f"inputs has {count}; at most {max_batch} answers fit in one request", field="inputs")
    return cast("list[str]", inputs)


def broken(exc: HearthError) -> bytes:
    """The event by which a stream of server-sent events says that it failed."""
    return _sse({"error": exc.message, "error_type": "generation"})

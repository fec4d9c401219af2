import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.dialects import text
from server.dialects.engine import FinishReason, Generation, Step, Token
from server.dialects.generation import Presentation
from server.errors import ModelFailed

CHUNKS = st.lists(st.tuples(st.text(max_size=4), st.lists(st.text(max_size=3), max_size=3)), max_size=6)


class Scripted:
    """Yields the steps it was given."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    async def generate(self, prompt: str, parameters: Generation, request_id: str) -> AsyncIterator[Step]:
        for step in self.steps:
            yield step


def steps_of(chunks: list[tuple[str, list[str]]], reason: FinishReason = "stop") -> list[Step]:
    """Engines hold text back and let it go later: text and tokens of a step need not agree."""
    steps = [Step(0, said, tuple(Token(7, each, -1.0) for each in tokens), prompt_tokens=3) for said, tokens in chunks]
    return [*steps, Step(0, "end", (Token(8, "e", float("-inf")),), finish_reason=reason, stop_reason="x")]


def events(steps: list[Step], shown: Presentation) -> list[dict[str, Any]]:
    async def collect() -> bytes:
        parts = text.stream(Scripted(steps), "prompt", Generation(max_tokens=9), shown, "r")
        return b"".join([part async for part in parts])

    lines = asyncio.run(collect()).split(b"\n\n")
    return [json.loads(line.removeprefix(b"data:")) for line in lines if line]


@given(CHUNKS)
def test_token_texts_add_up_to_the_generated_text(chunks: list[tuple[str, list[str]]]) -> None:
    seen = events(steps_of(chunks), Presentation(details=True, return_full_text=True))
    said = "".join(event["token"]["text"] for event in seen)
    assert said == "".join(chunk for chunk, _ in chunks) + "end"
    assert seen[-1]["generated_text"] == "prompt" + said
    assert all(event["generated_text"] is None and event["details"] is None for event in seen[:-1])
    details = seen[-1]["details"]
    assert details["finish_reason"] == "stop_sequence"
    assert details["generated_tokens"] == 1 + sum(len(tokens) for _, tokens in chunks)
    assert seen[-1]["token"]["logprob"] is None, "JSON has no infinity"


@pytest.mark.parametrize("steps", [[], steps_of([])[:-1], steps_of([], "abort")])
async def test_an_engine_that_stops_short_has_failed(steps: list[Step]) -> None:
    with pytest.raises(ModelFailed):
        await text.answer(Scripted(steps), "p", Generation(max_tokens=9), Presentation(), "r")
    with pytest.raises(ModelFailed):
        async for _ in text.stream(Scripted(steps), "p", Generation(max_tokens=9), Presentation(), "r"):
            pass

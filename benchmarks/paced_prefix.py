"""An engine that takes the time of one with a prefix cache, without computing: a replica on an accelerator of its own.

As in vLLM, KV memory is blocks of `BLOCK` tokens, known by all that comes before them; the least recently used goes
first; a prompt's tokens that are not in it are prefilled one prompt after another, and decoding goes on beside that.
A token is a word. Imports nothing but the standard library: Ray Serve LLM's replicas run it too.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path

BLOCK = 16
BLOCKS = 1400
"""KV memory: fourteen of the benchmark's prompts."""
PREFILL_TOKENS_S = 6000.0
ITL_S = 0.015
TALLY = "PACED_TALLY"
"""Environment variable: folder in which each engine keeps its counts."""


class Blocks:
    """Which blocks of prompts are in KV memory."""

    def __init__(self, most: int = BLOCKS) -> None:
        self._most = most
        self._held: OrderedDict[int, None] = OrderedDict()

    def take(self, words: list[str]) -> int:
        """Tokens of a prompt that were there already; afterwards all its full blocks are. The last token is
        computed anew in any case."""
        names, name = [], 0
        for start in range(0, len(words) - len(words) % BLOCK, BLOCK):
            name = hash((name, *words[start : start + BLOCK]))
            names.append(name)
        found = 0
        while found < len(names) and names[found] in self._held:
            found += 1
        for name in reversed(names):  # the end of a prompt goes before its beginning
            self._held[name] = None
            self._held.move_to_end(name)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return min(found * BLOCK, len(words) - 1)


class Paced:
    def __init__(self) -> None:
        self._blocks = Blocks()
        self._lane = asyncio.Lock()
        self._asked = self._hit = 0
        folder = os.environ.get(TALLY)
        self._tally = None if folder is None else Path(folder) / f"{os.getpid()}.json"

    async def events(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        """Server-sent events of a completion."""
        words = prompt.split()
        async with self._lane:
            hit = self._blocks.take(words)
            self._count(len(words), hit)
            await asyncio.sleep((len(words) - hit) / PREFILL_TOKENS_S)
        clock = asyncio.get_running_loop().time
        due = clock()
        for _ in range(tokens):
            await asyncio.sleep(due - clock())
            due += ITL_S
            yield _event([{"index": 0, "text": " a", "finish_reason": None}])
        read = len(words)
        yield _event([], {"prompt_tokens": read, "completion_tokens": tokens, "total_tokens": read + tokens})
        yield "data: [DONE]\n\n"

    def _count(self, asked: int, hit: int) -> None:
        self._asked += asked
        self._hit += hit
        if self._tally is not None:
            fresh = self._tally.with_suffix(".new")
            fresh.write_text(json.dumps([self._asked, self._hit]))
            fresh.replace(self._tally)


def tally(folder: Path) -> tuple[int, int]:
    """Prompt tokens asked and found in KV memory, of all engines that count in `folder`."""
    counts = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sum(asked for asked, _ in counts), sum(hit for _, hit in counts)


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> str:
    said = {"id": "c", "object": "text_completion", "created": 0, "model": "bench", "choices": choices}
    return f"data: {json.dumps({**said, **({'usage': usage} if usage else {})})}\n\n"

"""What is asked: prompts from a file, or synthetic ones of a stated length with shared prefixes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Speller = Callable[[np.random.Generator, int], str]
"""Makes a random text of exactly that many tokens."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Synthetic prompts: `tokens` long in all, the first `shared` of them the same within a group.

    Without a tokenizer a token is one four-letter word, so lengths are approximate.
    """

    tokens: int = 64
    shared: int = 0
    groups: int = 1
    count: int = 512

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.groups < 1 or self.count < 1:
            raise ValueError("tokens, groups and count must be at least 1")
        if not 0 <= self.shared < self.tokens:
            raise ValueError(f"shared prefix ({self.shared}) must be shorter than the prompt ({self.tokens})")


def load(path: Path) -> list[str]:
    """Prompts of a file: JSON lines with a `prompt` field when it ends in .jsonl, else one per line.

    Raises ValueError naming the file and line.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".jsonl":
        prompts = [_field(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    else:
        prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"{path}: no prompts")
    return prompts


def _field(where: str, line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    prompt = entry.get("prompt") if isinstance(entry, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise ValueError(f"{where}: expected an object with a non-empty string `prompt`")
    return prompt


def synthetic(shape: Shape, seed: int, tokenizer: Path | None = None) -> list[str]:
    """`shape.count` prompts; with a tokenizer folder each encodes to exactly `shape.tokens` tokens."""
    rng = np.random.default_rng(seed)
    spell = _by_tokenizer(tokenizer) if tokenizer else _by_letters
    prefixes = [spell(rng, shape.shared) for _ in range(shape.groups)]
    own = shape.tokens - shape.shared
    return [prefixes[i % shape.groups] + spell(rng, own) for i in range(shape.count)]


def _by_letters(rng: np.random.Generator, words: int) -> str:
    letters = rng.integers(ord("a"), ord("z") + 1, (words, 4), dtype=np.uint8)
    return "".join(" " + word.tobytes().decode() for word in letters)


def _by_tokenizer(folder: Path) -> Speller:
    """A speller out of words that are single tokens wherever they stand, checked on each text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = _whole_words(tokenizer)
    if len(words) < 16:
        raise ValueError(f"{folder}: the tokenizer has {len(words)} words of one token; too few")

    def spell(rng: np.random.Generator, tokens: int) -> str:
        text = "".join(words[i] for i in rng.integers(0, len(words), tokens))
        made = len(tokenizer.encode(text, add_special_tokens=False).ids)
        if made != tokens:
            raise ValueError(f"{folder}: words do not add up, {tokens} of them became {made} tokens")
        return text

    return spell


def _whole_words(tokenizer: Tokenizer) -> Sequence[str]:
    """Words with a leading space that are one token each, also after another word."""
    words = []
    for token in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([token])
        word = text if text.startswith(" ") else " " + text
        if not (word[1:].isascii() and word[1:].isalpha()):
            continue
        if tokenizer.encode(word + word, add_special_tokens=False).ids == [token, token]:
            words.append(word)
    return words

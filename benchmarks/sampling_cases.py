"""What the sampling benchmarks ask of every arm: logits that look like a model's, and mixtures of parameters.

`peaked` logits fall with the logarithm of a token's rank, as a language model's do: top - s * ln(rank) + noise, with a
slope s per row from 1.3 to 2.2, at random ids. `wide` is normal with deviation 3, a nucleus of a hundred tokens or
more; `flat` is normal with deviation 0.1, where most of the vocabulary is in the nucleus and no certificate holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

PROMPT, OUTPUT = 512, 128
"""Tokens a penalised row has seen."""


def peaked(rows: int, vocabulary: int) -> torch.Tensor:
    """Logits [B, V] of power laws."""
    slopes = 1.3 + 0.9 * torch.rand(rows, 1)
    ranked = 20 - slopes * torch.arange(1, vocabulary + 1).log() + 0.3 * torch.randn(rows, vocabulary)
    return torch.stack([row[torch.randperm(vocabulary)] for row in ranked])


def wide(rows: int, vocabulary: int) -> torch.Tensor:
    """Logits [B, V], normal, deviation 3."""
    return 3 * torch.randn(rows, vocabulary)


def flat(rows: int, vocabulary: int) -> torch.Tensor:
    """Logits [B, V], normal, deviation 0.1."""
    return 0.1 * torch.randn(rows, vocabulary)


@dataclass(frozen=True)
class Case:
    """Parameters by the names of `Rows.build`; a list is dealt to the rows in turn."""

    name: str
    logits: Callable[[int, int], torch.Tensor] = peaked
    parameters: dict[str, Any] = field(default_factory=dict)

    def of(self, name: str, rows: int, default: float) -> list[float]:
        """One parameter of every row."""
        value = self.parameters.get(name, default)
        values = value if isinstance(value, list) else [value]
        return [values[row % len(values)] for row in range(rows)]

    def uses(self, name: str) -> bool:
        """Whether a parameter is set for some row."""
        return name in self.parameters


CASES = (
    Case("greedy", parameters={"temperature": 0.0}),
    Case("temperature", parameters={"temperature": 0.8}),
    Case("top-p 0.9", parameters={"temperature": 0.8, "top_p": 0.9}),
    Case("top-k 50, top-p 0.9", parameters={"temperature": 0.8, "top_k": 50, "top_p": 0.9}),
    Case("min-p 0.05", parameters={"temperature": 0.8, "min_p": 0.05}),
    Case(
        "penalties, top-p 0.9",
        parameters={"temperature": 0.8, "top_p": 0.9, "repetition": 1.1, "frequency": 0.1, "presence": 0.1},
    ),
    Case(
        "mixed",
        parameters={"temperature": [0.0, 0.8, 0.8, 1.0], "top_p": [1.0, 1.0, 0.9, 0.95], "top_k": [0, 0, 0, 50]},
    ),
    Case("wide, top-p 0.9", wide, {"temperature": 0.8, "top_p": 0.9}),
    Case("flat, top-p 0.9", flat, {"temperature": 0.8, "top_p": 0.9}),
)


def seen(rows: int, vocabulary: int) -> tuple[list[list[int]], list[list[int]]]:
    """(prompts, outputs) as token ids."""
    prompts = torch.randint(vocabulary, (rows, PROMPT)).tolist()
    return prompts, torch.randint(vocabulary, (rows, OUTPUT)).tolist()

"""Compiles the sampling kernels at the engine's start, so that no request waits for it."""

from __future__ import annotations

import torch

from kernels.sampling import Rows, Seen, SparseSeen, sample

ROWS = 8
PARAMETERS = (
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 5, "top_p": 0.9},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.0, "top_p": 0.9, "repetition": 1.1},
)


def compile_for(logits: torch.Tensor) -> None:
    """Runs each kind of sampling once on rows of `logits` [B, V], of the type and device that requests will have."""
    logits = logits[:ROWS]
    batch, vocabulary = logits.shape
    for parameters in PARAMETERS:
        filled = {name: [value] * batch for name, value in parameters.items()}
        rows = Rows.build(**filled, vocabulary=vocabulary, device=logits.device)
        seen = _one_token_seen(batch, vocabulary, logits.device) if rows.any_penalty else None
        for logprobs in (None, 0, 5):
            sample(logits, rows, seen, logprobs)


def _one_token_seen(batch: int, vocabulary: int, device: torch.device) -> Seen | SparseSeen:
    prompts = [[0]] * batch
    if device.type == "cpu":
        return SparseSeen.build(prompts, prompts, vocabulary=vocabulary)
    return Seen.build(prompts, prompts, vocabulary=vocabulary, device=device)

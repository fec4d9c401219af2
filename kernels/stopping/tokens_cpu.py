"""`advance` on a CPU: a compiled loop over the rows that have stop sequences."""

from __future__ import annotations

from typing import Any

import torch
from numba import njit
from torch import Tensor

from kernels.stopping.tokens import WORD


def advance(
    sequences: Tensor, lengths: Tensor, bits: Tensor, slots: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """See `kernels.stopping.tokens`. Returns (sequence, held), both int32 [B]."""
    sequence = torch.empty(len(tokens), dtype=torch.int32)
    held = torch.empty(len(tokens), dtype=torch.int32)
    given = (sequences, lengths, bits, slots.long(), tokens.long(), sequence, held)
    _rows(*(tensor.numpy() for tensor in given))
    return sequence, held


@njit
def _rows(sequences: Any, lengths: Any, bits: Any, slots: Any, tokens: Any, sequence: Any, held: Any) -> None:
    for row in range(len(tokens)):
        slot, token = slots[row], tokens[row]
        stopped, longest, partial = -1, 0, 0
        for index in range(lengths.shape[1]):
            length = lengths[slot, index]
            if length == 0:
                continue
            if token >= 0:
                _step(sequences[slot, index], length, bits[slot, index], token)
            reached = _longest(bits[slot, index], length)
            if reached == length and token >= 0:
                if length > longest:
                    stopped, longest = index, length
                reached = _longest(bits[slot, index], length - 1)
            partial = max(partial, reached)
        sequence[row] = stopped
        held[row] = partial if stopped < 0 else longest


@njit
def _step(sequence: Any, length: int, bits: Any, token: int) -> None:
    """From the last word to the first: each takes its carry from the one before it, not yet overwritten."""
    for word in range((length - 1) // WORD, -1, -1):
        carry = bits[word - 1] >> (WORD - 1) if word > 0 else 1
        reached = (bits[word] << 1) | carry
        now = 0
        for bit in range(min(WORD, length - word * WORD)):
            if sequence[word * WORD + bit] == token:
                now |= reached & (1 << bit)
        bits[word] = now


@njit
def _longest(bits: Any, most: int) -> int:
    """How many tokens of the sequence, at most `most`, are the last ones: the highest bit that is set."""
    for place in range(most, 0, -1):
        if bits[(place - 1) // WORD] >> ((place - 1) % WORD) & 1:
            return place
    return 0

"""`advance` on a GPU: one program of one warp per batch row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.stopping.tokens import WORD

SEQUENCES = 8
"""Sequences that a program takes at a time: 8 x 32 positions are eight registers a lane."""


@triton.jit
def advance_kernel(
    sequences: tl.tensor,
    lengths: tl.tensor,
    bits: tl.tensor,
    slots: tl.tensor,
    tokens: tl.tensor,
    sequence_out: tl.tensor,
    held_out: tl.tensor,
    most: tl.tensor,  # S
    words: tl.tensor,  # L / 32
    at_once: tl.constexpr,
    word_bits: tl.constexpr,
) -> None:
    row = tl.program_id(0)
    slot = tl.load(slots + row).to(tl.int64)
    token = tl.load(tokens + row).to(tl.int32)
    bit = tl.arange(0, word_bits)
    best = tl.full((), 0, tl.int64)  # length << 32 | (2**31 - 1 - index) of the sequence that ends here
    partial = tl.full((), 0, tl.int32)
    for start in range(0, most, at_once):
        index = start + tl.arange(0, at_once)
        cell = slot * most + index
        length = tl.load(lengths + cell, mask=index < most, other=0)
        for back in range(words):
            # From the last word to the first: each takes its carry from the one before it, not yet overwritten.
            word = words - 1 - back
            mine = length > word * word_bits
            old = tl.load(bits + cell * words + word, mask=mine, other=0)
            before = tl.load(bits + cell * words + tl.maximum(word - 1, 0), mask=mine, other=0)
            carry = tl.where(word > 0, before >> (word_bits - 1), 1)
            place = word * word_bits + bit[None, :] + 1
            here = cell[:, None] * (words * word_bits) + place - 1
            wanted = tl.load(sequences + here, mask=place <= length[:, None], other=-1)
            reached = ((((old << 1) | carry)[:, None] >> bit[None, :]) & 1) == 1
            kept = ((old[:, None] >> bit[None, :]) & 1) == 1
            now = tl.where(token < 0, kept, reached & (wanted == token))
            tl.debug_barrier()  # every lane has read the words before one writes them
            tl.store(bits + cell * words + word, tl.sum(now.to(tl.int64) << bit[None, :], axis=1), mask=mine)
            ended = now & (place == length[:, None]) & (token >= 0)
            key = (place.to(tl.int64) << 32) | (2147483647 - index[:, None]).to(tl.int64)
            best = tl.maximum(best, tl.max(tl.max(tl.where(ended, key, 0), axis=1), axis=0))
            open_ = tl.where(now & (place < length[:, None]), place, 0)
            partial = tl.maximum(partial, tl.max(tl.max(open_, axis=1), axis=0))
    stopped = best > 0
    tl.store(sequence_out + row, tl.where(stopped, 2147483647 - (best & 2147483647), -1).to(tl.int32))
    tl.store(held_out + row, tl.where(stopped, best >> 32, partial.to(tl.int64)).to(tl.int32))


def advance(
    sequences: Tensor, lengths: Tensor, bits: Tensor, slots: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """See `kernels.stopping.tokens`. Returns (sequence, held), both int32 [B]."""
    sequence = torch.empty_like(tokens, dtype=torch.int32)
    held = torch.empty_like(sequence)
    most, words = bits.shape[1:]
    if len(tokens):
        advance_kernel[(len(tokens),)](
            sequences, lengths, bits, slots, tokens, sequence, held, most, words,
            at_once=SEQUENCES, word_bits=WORD, num_warps=1,
        )  # fmt: skip
    return sequence, held

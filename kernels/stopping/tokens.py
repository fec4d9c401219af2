"""Stop sequences of tokens for a whole batch, where the batch is: `advance` takes each row's new token and says
which stop sequence ends with it and how many of the last tokens must not be shown yet.

The state is a set of bits per (slot, sequence): bit j is set when the last j + 1 tokens are the first j + 1 of the
sequence. A token advances it by ``((bits << 1) | 1) & where(sequence == token)``: the Shift-And algorithm (Baeza-Yates
and Gonnet, CACM 35(10), 1992). Beside the two other ways to do it:

- comparing the last tokens with every sequence finds the stops, but what to hold back takes every prefix of every
  sequence against every suffix: S * L * L comparisons where this needs S * L, and it needs the history on the device;
- an Aho-Corasick automaton follows failure links, a chain of dependent loads whose length depends on the data, and
  must be built on the host for every request; here a new request only writes its tokens into its slot.

Meaning (`kernels.stopping.strings` has the same): the sequence that ends first wins; of several that end at the same
token, the one that starts first, then the lowest index. A sequence inside which another one ends can never win, so its
beginnings are not held back. Speculative decoding calls `advance` once per accepted position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WORD = 32
"""Bits to a word of the state; words are int64, so that a sign never plays a part."""

MAX_TOKEN = 2**31 - 1


@dataclass(frozen=True, slots=True)
class StopTokens:
    """The stop sequences of R slots, at most S each, of at most L tokens (L a multiple of WORD), and how far each is.

    A slot is where the engine keeps a request's state; batch rows name theirs. All tensors are on one device.
    """

    sequences: Tensor
    """int32 [R, S, L], padded with -1."""
    lengths: Tensor
    """int32 [R, S]; 0 where there is no sequence, or one that cannot win."""
    bits: Tensor
    """int64 [R, S, L / WORD]."""

    @classmethod
    def empty(
        cls, slots: int, max_sequences: int, max_tokens: int, device: torch.device | str = "cpu"
    ) -> StopTokens:
        words = -(-max_tokens // WORD)
        return cls(
            torch.full((slots, max_sequences, words * WORD), -1, dtype=torch.int32, device=device),
            torch.zeros((slots, max_sequences), dtype=torch.int32, device=device),
            torch.zeros((slots, max_sequences, words), dtype=torch.int64, device=device),
        )

    def assign(self, slot: int, sequences: Sequence[Sequence[int]]) -> None:
        """Gives `slot` to a new request that has generated nothing yet; `sequences` may be empty.

        Raises ValueError for more or longer sequences than there is room for, and for what is no token id.
        """
        _, most, room = self.sequences.shape
        if len(sequences) > most:
            raise ValueError(f"{len(sequences)} stop sequences; at most {most} fit")
        for each in sequences:
            if not 0 < len(each) <= room:
                raise ValueError(f"a stop sequence of {len(each)} tokens; 1 to {room} fit")
            if not all(0 <= token <= MAX_TOKEN for token in each):
                raise ValueError(f"a stop sequence has a token outside 0 to {MAX_TOKEN}")
        rows = torch.full((most, room), -1, dtype=torch.int32)
        lengths = torch.zeros(most, dtype=torch.int32)
        for index, each in enumerate(sequences):
            if can_win(each, sequences):
                rows[index, : len(each)] = torch.tensor(each, dtype=torch.int32)
                lengths[index] = len(each)
        self.sequences[slot] = rows.to(self.sequences.device)
        self.lengths[slot] = lengths.to(self.lengths.device)
        self.bits[slot] = 0


def can_win(sequence: Sequence[int], sequences: Sequence[Sequence[int]]) -> bool:
    """Whether none of `sequences` ends inside `sequence`, before its last token."""
    inner = list(sequence[:-1])
    return not any(
        inner[start : start + len(other)] == list(other)
        for other in sequences
        for start in range(len(inner) - len(other) + 1)
    )


@dataclass(frozen=True, slots=True)
class Stopped:
    """Per batch row, after the new token."""

    sequence: Tensor
    """int32 [B]: index of the stop sequence that ends here, -1 if none does."""
    held: Tensor
    """int32 [B]: how many of the last tokens must not be shown: those of the sequence that ended, or else those that
    may turn out to be the beginning of one."""


def advance(stops: StopTokens, slots: Tensor, tokens: Tensor) -> Stopped:
    """One decode step. `slots` int32 or int64 [B], each at most once; `tokens` int32 or int64 [B]: the new token of
    each row, negative where a row has none, which leaves it as it was and ends nothing.

    Changes `stops.bits` of these slots. CUDA tensors go through one Triton launch on the current device, without a
    synchronisation. A row that has stopped is its caller's to leave out: nothing resets it before `assign`.
    """
    if slots.shape != tokens.shape or slots.dim() != 1:
        raise ValueError(f"slots {list(slots.shape)} and tokens {list(tokens.shape)} must both be [B]")
    if tokens.device.type == "cuda":
        from kernels.stopping.tokens_gpu import advance as on_gpu

        return Stopped(*on_gpu(stops.sequences, stops.lengths, stops.bits, slots, tokens))
    from kernels.stopping.tokens_cpu import advance as on_cpu

    return Stopped(*on_cpu(stops.sequences, stops.lengths, stops.bits, slots, tokens))

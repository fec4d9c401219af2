"""Reading one row of logits on the GPU: raw values, and what penalties and temperature make of them.

A `row` is a tuple (logits, vocabulary, prompt, counts, generated, penalises, inverse_temperature, repetition,
frequency, presence): pointers to the row's own logits, bitmaps and counts, then scalars.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import bounded, clean, penalised

NO_PENALTY = tl.constexpr(0)
PENALTY_COUNTS = tl.constexpr(1)  # every count of a penalised row is read
PENALTY_BITMAP = tl.constexpr(2)  # only counts whose bit in `generated` is set


@triton.jit
def raw_values(row: tl.tuple, ids: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """Clean fp32 logits of tokens `ids`, -inf where not `inside`."""
    return clean(tl.load(row[0] + ids, mask=inside, other=float("-inf")))


@triton.jit
def _bits(words: tl.tensor, ids: tl.tensor, inside: tl.tensor) -> tl.tensor:
    word = tl.load(words + ids // 32, mask=inside, other=0)
    return ((word >> (ids % 32)) & 1) != 0


@triton.jit
def scaled_from_raw(
    row: tl.tuple, x: tl.tensor, ids: tl.tensor, inside: tl.tensor, penalty: tl.constexpr
) -> tl.tensor:
    """What the steps up to the temperature make of clean logits `x`; -inf stays."""
    if penalty != NO_PENALTY:  # noqa: SIM102 - one is known when compiling, one is not
        if row[5]:
            in_prompt = _bits(row[2], ids, inside)
            counted = inside
            if penalty == PENALTY_BITMAP:
                counted = inside & _bits(row[4], ids, inside)
            count = tl.load(row[3] + ids, mask=counted, other=0)
            x = penalised(x, count, in_prompt, row[7], row[8], row[9])
    return bounded(x * row[6], x > float("-inf"))


@triton.jit
def scaled_values(
    row: tl.tuple, ids: tl.tensor, inside: tl.tensor, penalty: tl.constexpr
) -> tl.tensor:
    """Values of tokens `ids` after penalties and temperature, -inf where not `inside`."""
    return scaled_from_raw(row, raw_values(row, ids, inside), ids, inside, penalty)

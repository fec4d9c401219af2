"""The two kernels: one streams all rows in slices, one finishes a row per program from what the first left.

A ticket that lets the last slice of a row finish it would save the second launch, but finishing needs 128 registers
a thread where streaming needs 31 (77 with weights): in one kernel every streaming program would pay for them with
a quarter of its occupancy.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import GREEDY_BELOW, random_word
from kernels.sampling.gpu_finish import finish
from kernels.sampling.gpu_report import report
from kernels.sampling.gpu_scan import scan_tile, scratch_of
from kernels.sampling.gpu_values import NO_PENALTY, PENALTY_BITMAP


@triton.jit
def row_of(
    b: tl.tensor, source: tl.tuple, penalties: tl.tuple, seen: tl.tuple, penalty: tl.constexpr
) -> tl.tuple:
    """The `row` of gpu_values.py for batch row `b`."""
    logits, stride, vocabulary, inverse_temperature = source
    vocabulary = tl.to_tensor(vocabulary)  # a 1 is compiled in as a constant
    slot, prompt, counts, generated, bitmap_stride, counts_stride = seen
    repetition, frequency, presence = 1.0, 0.0, 0.0
    if penalty != NO_PENALTY:
        repetition = tl.load(penalties[0] + b)
        frequency = tl.load(penalties[1] + b)
        presence = tl.load(penalties[2] + b)
        state = tl.load(slot + b).to(tl.int64)
        prompt += state * bitmap_stride
        counts += state * counts_stride
        if penalty == PENALTY_BITMAP:
            generated += state * bitmap_stride
    return (
        logits + b.to(tl.int64) * stride,
        vocabulary,
        prompt,
        counts,
        generated,
        (repetition != 1.0) | (frequency != 0.0) | (presence != 0.0),
        tl.load(inverse_temperature + b),
        repetition,
        frequency,
        presence,
    )


@triton.jit
def wish_of(b: tl.tensor, vocabulary: tl.tensor, rows: tl.tuple) -> tl.tuple:
    """The `wish` of gpu_draw.py for batch row `b`, with seed and position in place of the random word."""
    temperature, top_k, top_p, min_p, log_min_p, seed, position = rows
    k = tl.load(top_k + b)
    k = tl.where((k > 0) & (k < vocabulary), k, 0)
    p = tl.load(top_p + b)
    return (
        tl.load(temperature + b) < GREEDY_BELOW,
        k,
        p < 1.0,
        p,
        tl.load(log_min_p + b),
        (k == 0) & (tl.load(min_p + b) <= 0.0),
        random_word(tl.load(seed + b), tl.load(position + b)),
    )


@triton.jit(do_not_specialize=["tiles", "tiles_per_program"])
def scan_kernel(
    source: tl.tuple,  # (logits, row stride, V, inverse_temperature)
    tiles: tl.tensor,
    tiles_per_program: tl.tensor,
    filters: tl.tuple,  # (temperature, top_k, min_p)
    penalties: tl.tuple,  # (repetition, frequency, presence)
    seen: tl.tuple,  # (slot, prompt, counts, generated, strides of bitmaps and counts), not read where penalty is 0
    workspace: tl.tensor,
    penalty: tl.constexpr,
    weighted: tl.constexpr,
    reporting: tl.constexpr,
) -> None:
    """Summarise every tile of every row; `cdiv(tiles, tiles_per_program)` consecutive programs a row."""
    programs = (tiles + tiles_per_program - 1) // tiles_per_program
    b = tl.program_id(0) // programs
    first = (tl.program_id(0) % programs) * tiles_per_program
    row = row_of(b, source, penalties, seen, penalty)
    scratch = scratch_of(workspace, b, tiles)
    k = tl.load(filters[1] + b)
    weighs = ((k <= 0) | (k >= row[1])) & (tl.load(filters[2] + b) <= 0.0)
    weighs = weighs & (tl.load(filters[0] + b) >= GREEDY_BELOW)
    for tile in range(first, tl.minimum(first + tiles_per_program, tiles)):
        scan_tile(row, scratch, tile, weighs, penalty, weighted, reporting)


@triton.jit(do_not_specialize=["tiles", "top_count"])
def finish_kernel(
    source: tl.tuple,
    tiles: tl.tensor,
    rows: tl.tuple,  # (temperature, top_k, top_p, min_p, log_min_p, seed, position)
    penalties: tl.tuple,
    seen: tl.tuple,
    workspace: tl.tensor,
    out: tl.tuple,  # (tokens, logprob, rank, top_tokens, top_logprobs), the last four not written without reporting
    top_count: tl.tensor,
    penalty: tl.constexpr,
    weighted: tl.constexpr,
    filtered: tl.constexpr,
    reporting: tl.constexpr,
    group_room: tl.constexpr,
    tile_room: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Draw the token of one row per program, and report its log-probabilities."""
    b = tl.program_id(0)
    row = row_of(b, source, penalties, seen, penalty)
    scratch = scratch_of(workspace, b, tiles)
    wish = wish_of(b, row[1], rows)
    token = finish(row, scratch, wish, tiles, penalty, weighted, filtered, group_room, tile_room, block)
    tl.store(out[0] + b, token.to(tl.int64))
    if reporting:
        far = b.to(tl.int64) * top_count
        place = (out[1] + b, out[2] + b, out[3] + far, out[4] + far)
        report(row, scratch, place, token, tiles, top_count, group_room, tile_room, block)

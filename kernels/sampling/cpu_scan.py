"""The one streaming read of a row: maxima of groups, and per tile the exponent and the sum of weights.

A tile's second visit finds it in the first-level cache, so memory is read once. Loops are split by width: the
exponential runs on 32-bit lanes and leaves (mantissa, distance) behind, the shift and the sum run on 64-bit lanes;
in one loop LLVM would take the narrower vector for all of it, which costs 2.7 times as much. Maxima are of integers
that order as the floats do, since LLVM vectorises no float maximum without `fastmath`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.sampling.arithmetic import GREEDY_BELOW, LARGEST_SHIFT, LOG2E, TILE, WEIGHT_SHIFT
from kernels.sampling.cpu_compile import compiled
from kernels.sampling.cpu_elements import (
    HALF,
    LIMIT,
    NOTHING,
    bounded,
    clean,
    exponent,
    infinity,
    mantissa,
    order,
    penalised,
    unordered,
    value,
)
from kernels.sampling.cpu_frame import (
    BF16,
    DISTANCES,
    ELEMENT,
    EXPONENTS,
    FP16,
    FREQUENCY,
    GROUP,
    GROUPS,
    INVERSE,
    MANTISSAS,
    MAXIMA,
    MIN_P,
    PRESENCE,
    RAW,
    RAW_EXPONENTS,
    RAW_MAXIMA,
    RAW_SUMS,
    REPETITION,
    REPORTS,
    SEEN_COUNTS,
    SEEN_OFFSETS,
    SEEN_PROMPT,
    SEEN_TOKENS,
    STRIDE,
    TEMPERATURE,
    TILES,
    TOP_K,
    VOCABULARY,
    WEIGHTS,
    X,
    Y,
)
from kernels.sampling.cpu_intrinsics import f32, f32s, i16s, i32, i32s, i64, i64s, u8s, u16s

SHIFT = np.int64(WEIGHT_SHIFT)
FARTHEST = np.int32(LARGEST_SHIFT)
LOWEST = int(-LIMIT)
DEEP = np.float32(-LIMIT + np.float32(128.0))


@compiled
def bf16(words: Any, row: Any, start: Any, count: Any) -> Any:
    """Part of a row of bf16 logits, as int16."""
    return i16s(words[RAW] + 2 * (row * words[STRIDE] + start), count)


@compiled
def fp16(words: Any, row: Any, start: Any, count: Any) -> Any:
    """Part of a row of fp16 logits, as uint16."""
    return u16s(words[RAW] + 2 * (row * words[STRIDE] + start), count)


@compiled
def fp32(words: Any, row: Any, start: Any, count: Any) -> Any:
    """Part of a row of fp32 logits, as int32."""
    return i32s(words[RAW] + 4 * (row * words[STRIDE] + start), count)


@compiled
def load(words: Any, row: Any, start: Any, count: Any) -> None:
    """Clean logits `start` .. `start + count` of a row into X."""
    if words[ELEMENT] == BF16:
        _clean(bf16(words, row, start, count), words)
    elif words[ELEMENT] == FP16:
        _clean(fp16(words, row, start, count), words)
    else:
        _clean(fp32(words, row, start, count), words)


@compiled
def _clean(stored: Any, words: Any) -> None:
    x = f32s(words[X], stored.shape[0])
    for i in range(stored.shape[0]):
        x[i] = clean(value(stored[i]))


@compiled
def penalised_row(words: Any, row: Any) -> Any:
    """Whether penalties may change a row."""
    if i64(words[SEEN_OFFSETS], row) == i64(words[SEEN_OFFSETS], row + 1):
        return False
    return f32(words[REPETITION], row) != 1 or f32(words[FREQUENCY], row) != 0 or f32(words[PRESENCE], row) != 0


@compiled
def whole(words: Any, row: Any) -> Any:
    """Whether a row needs the weight of every token: it draws, with neither top-k nor min-p."""
    limited = 0 < i32(words[TOP_K], row) < words[VOCABULARY] or f32(words[MIN_P], row) > 0
    return f32(words[TEMPERATURE], row) >= GREEDY_BELOW and not limited


@compiled
def first_seen(words: Any, row: Any, token: Any) -> Any:
    """Index of the row's first seen entry with an id of at least `token`."""
    low, high = i64(words[SEEN_OFFSETS], row), i64(words[SEEN_OFFSETS], row + 1)
    while low < high:
        middle = (low + high) // 2
        if i32(words[SEEN_TOKENS], middle) < token:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def load_penalised(words: Any, row: Any, start: Any, count: Any) -> None:
    """`load`, then the row's penalties if it has any."""
    load(words, row, start, count)
    if penalised_row(words, row):
        penalise(words, row, start, count)


@compiled
def penalise(words: Any, row: Any, start: Any, count: Any) -> None:
    """Apply a row's penalties to its logits `start` .. `start + count` in X."""
    repetition, frequency = f32(words[REPETITION], row), f32(words[FREQUENCY], row)
    presence, x = f32(words[PRESENCE], row), f32s(words[X], count)
    entry, last = first_seen(words, row, start), i64(words[SEEN_OFFSETS], row + 1)
    while entry < last and i32(words[SEEN_TOKENS], entry) < start + count:
        i = i32(words[SEEN_TOKENS], entry) - start
        in_prompt = u8s(words[SEEN_PROMPT], entry + 1)[entry] != 0
        x[i] = penalised(x[i], i32(words[SEEN_COUNTS], entry), in_prompt, repetition, frequency, presence)
        entry += 1


@compiled
def _maxima(stored: Any, out: Any) -> Any:
    """Maximum of each group of a tile into `out`; (the largest, whether it is inf or some value may be NaN).

    In the second case neither means anything.
    """
    count, limit, highest = stored.shape[0], infinity(stored[0]), order(stored[0])
    for g in range(count // GROUP):
        key = order(stored[g * GROUP])
        for i in range(g * GROUP, g * GROUP + GROUP):
            key = max(key, order(stored[i]))
        out[g] = clean(unordered(key, stored[0]))
        highest = max(highest, key)
    if count % GROUP:
        key = order(stored[count // GROUP * GROUP])
        for i in range(count // GROUP * GROUP, count):
            key = max(key, order(stored[i]))
        out[count // GROUP] = clean(unordered(key, stored[0]))
        highest = max(highest, key)
    return clean(unordered(highest, stored[0])), highest >= limit


@compiled
def _stored_maxima(words: Any, row: Any, start: Any, count: Any, out: Any) -> Any:
    if words[ELEMENT] == BF16:
        return _maxima(bf16(words, row, start, count), out)
    if words[ELEMENT] == FP16:
        return _maxima(fp16(words, row, start, count), out)
    return _maxima(fp32(words, row, start, count), out)


@compiled
def _spread(stored: Any, inverse: Any, base: Any, words: Any) -> None:
    """Mantissas and distances below `base` of a tile in which every finite n is well within the limits."""
    count = stored.shape[0]
    mantissas, distances = i32s(words[MANTISSAS], count), i32s(words[DISTANCES], count)
    for i in range(count):
        y = value(stored[i]) * inverse
        n = np.floor(y * LOG2E + HALF)
        n = n if n > -LIMIT else -LIMIT  # -inf and NaN end far away
        mantissas[i] = mantissa(y, n)
        distances[i] = min(np.int32(base - np.int32(n)), FARTHEST)


@compiled
def spread_clean(words: Any, count: Any, inverse: Any, base: Any) -> None:
    """The same of the clean logits in X, whatever their size."""
    x = f32s(words[X], count)
    mantissas, distances = i32s(words[MANTISSAS], count), i32s(words[DISTANCES], count)
    for i in range(count):
        y = bounded(np.float32(x[i] * inverse), x[i] > NOTHING)
        n = exponent(y)
        mantissas[i] = mantissa(y, n) if x[i] > NOTHING else np.int32(0)
        distances[i] = min(np.int32(base - np.int32(n)), FARTHEST)


@compiled
def _total(words: Any, row: Any, start: Any, count: Any, inverse: Any, best: Any, in_x: Any) -> Any:
    """(exponent, sum of weights relative to it) of a tile whose clean maximum is `best`, which is in X if `in_x`."""
    if best == NOTHING:
        return np.int64(LOWEST), np.int64(0)
    base = exponent(bounded(np.float32(best * inverse), True))
    if base >= LIMIT or base < DEEP:
        if not in_x:
            load(words, row, start, count)
        spread_clean(words, count, inverse, np.int32(base))
    elif in_x:
        _spread(i32s(words[X], count), inverse, np.int32(base), words)
    elif words[ELEMENT] == BF16:
        _spread(bf16(words, row, start, count), inverse, np.int32(base), words)
    elif words[ELEMENT] == FP16:
        _spread(fp16(words, row, start, count), inverse, np.int32(base), words)
    else:
        _spread(fp32(words, row, start, count), inverse, np.int32(base), words)
    return np.int64(base), _sum(words, count)


@compiled
def _sum(words: Any, count: Any) -> Any:
    mantissas, distances = i32s(words[MANTISSAS], count), i32s(words[DISTANCES], count)
    total = np.int64(0)
    for i in range(count):
        total += (np.int64(mantissas[i]) << SHIFT) >> np.int64(distances[i])
    return total


@compiled
def weigh(words: Any, count: Any, base: Any) -> Any:
    """WEIGHTS of the first `count` candidates Y relative to exponent `base`, 0 at -inf; their sum."""
    y, out = f32s(words[Y], count), i64s(words[WEIGHTS], count)
    mantissas, distances = i32s(words[MANTISSAS], TILE), i32s(words[DISTANCES], TILE)
    total, highest = np.int64(0), np.int32(base)
    for start in range(0, count, TILE):
        part, weights = y[start : min(count, start + TILE)], out[start:]  # no index that might be negative: vectors
        for i in range(part.shape[0]):
            n = exponent(part[i])
            mantissas[i] = mantissa(part[i], n) if part[i] > NOTHING else np.int32(0)
            distances[i] = min(np.int32(highest - np.int32(n)), FARTHEST)
        for i in range(part.shape[0]):
            weights[i] = (np.int64(mantissas[i]) << SHIFT) >> np.int64(distances[i])
            total += weights[i]
    return total


@compiled
def scan_tile(words: Any, row: Any, tile: Any) -> None:
    """Everything the row's end needs to know of one tile, into the arrays left by the scan."""
    start = tile * TILE
    count = min(TILE, words[VOCABULARY] - start)
    first, at = row * words[GROUPS] + start // GROUP, row * words[TILES] + tile
    groups = (count + GROUP - 1) // GROUP
    maxima = f32s(words[MAXIMA], first + groups)[first:]
    inverse, penalised = f32(words[INVERSE], row), penalised_row(words, row)
    best, in_x = _stored_maxima(words, row, start, count, maxima)
    if in_x:
        load(words, row, start, count)
        best, _ = _maxima(i32s(words[X], count), maxima)
    if words[REPORTS]:
        _leave(words, RAW_EXPONENTS, at, _total(words, row, start, count, np.float32(1.0), best, in_x))
        raw_maxima = f32s(words[RAW_MAXIMA], first + groups)[first:]
        for g in range(groups if penalised else 0):
            raw_maxima[g] = maxima[g]
    if penalised and first_seen(words, row, start) < first_seen(words, row, start + count):
        load_penalised(words, row, start, count)
        best, in_x = _maxima(i32s(words[X], count), maxima)[0], True
    elif words[REPORTS] and inverse == 1:
        _leave(words, EXPONENTS, at, (i64(words[RAW_EXPONENTS], at), i64(words[RAW_SUMS], at)))
        return
    if whole(words, row):
        _leave(words, EXPONENTS, at, _total(words, row, start, count, inverse, best, in_x))


@compiled
def _leave(words: Any, exponents: Any, at: Any, total: Any) -> None:
    i64s(words[exponents], at + 1)[at], i64s(words[exponents + 1], at + 1)[at] = total

"""The end of a row on the CPU: filters and the draw, from the maxima and sums the scan left."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.sampling.arithmetic import FLT_MAX, GREEDY_BELOW, LARGEST_SHIFT, TILE
from kernels.sampling.cpu_compile import compiled
from kernels.sampling.cpu_elements import NOTHING, bounded, exponent, philox
from kernels.sampling.cpu_frame import (
    DISTANCES,
    EXPONENTS,
    GROUP,
    GROUPS,
    IDS,
    INVERSE,
    LOG_MIN_P,
    MANTISSAS,
    MAXIMA,
    MIN_P,
    POSITION,
    SEED,
    SUMS,
    TEMPERATURE,
    TILES,
    TOP_K,
    TOP_P,
    VOCABULARY,
    WEIGHTS,
    X,
    Y,
)
from kernels.sampling.cpu_intrinsics import f32, f32s, i32, i32s, i64, i64s, upper_product
from kernels.sampling.cpu_scan import SHIFT, load_penalised, penalised_row, spread_clean, weigh, whole
from kernels.sampling.cpu_select import (
    bound,
    crossing,
    gather,
    gather_all,
    keep_first,
    keep_largest,
    largest,
    scale_maxima,
)

# Top-p looks among the tokens that reach the NARROW-th largest maximum, then among those above where a sample of
# SAMPLE groups puts the nucleus's end, less MARGIN, then among all.
NARROW, SAMPLE, MARGIN = 64, 64, np.float32(0.5)


@compiled
def draw(words: Any, row: Any) -> Any:
    """The token of a row whose tiles have all been scanned."""
    first = row * words[GROUPS]
    maxima = f32s(words[MAXIMA], first + words[GROUPS])[first:]
    if f32(words[TEMPERATURE], row) < GREEDY_BELOW:
        return _first_largest(words, row, maxima)
    top = scale_maxima(words, maxima, f32(words[INVERSE], row))
    if top == NOTHING:
        return np.int64(0)
    base = np.int64(exponent(top))
    if not whole(words, row):
        return _draw_among(words, row, _limited(words, row, top, base))
    if f32(words[TOP_P], row) < 1:
        return _draw_among(words, row, _nucleus(words, row, base))
    return _draw_whole(words, row, base)


@compiled
def _first_largest(words: Any, row: Any, maxima: Any) -> Any:
    best = largest(maxima, 0, maxima.shape[0])
    group = 0
    while maxima[group] != best:
        group += 1
    start = group * GROUP
    size = min(GROUP, words[VOCABULARY] - start)
    load_penalised(words, row, start, size)
    x, i = f32s(words[X], size), 0
    while x[i] != best:
        i += 1
    return np.int64(start + i)


@compiled
def _limited(words: Any, row: Any, top: Any, base: Any) -> Any:
    """Min-p and top-k, then top-p: candidates, weighed if they survive; how many."""
    k, p, least = np.int64(i32(words[TOP_K], row)), f32(words[TOP_P], row), -FLT_MAX
    limited = 0 < k < words[VOCABULARY]
    if f32(words[MIN_P], row) > 0:
        least = max(least, np.float32(top + f32(words[LOG_MIN_P], row)))
    if limited:
        least = max(least, bound(words, k))
    count = gather(words, row, f32(words[INVERSE], row), penalised_row(words, row), least)
    if limited:
        count = keep_largest(words, count, k)
    mass = weigh(words, count, base)
    if p < 1:
        keep_first(words, count, _share(p, mass))
    return count


@compiled
def _nucleus(words: Any, row: Any, base: Any) -> Any:
    """Top-p alone: candidates, weighed if they survive; how many."""
    inverse, penalties = f32(words[INVERSE], row), penalised_row(words, row)
    total = _row_total(words, row, base)
    target = _share(f32(words[TOP_P], row), total)
    count, mass, least = 0, np.int64(0), bound(words, np.int64(NARROW))
    if least > -FLT_MAX:
        count = gather(words, row, inverse, penalties, least)
        mass = weigh(words, count, base)
        if mass < target:
            least = _estimate(words, row, base, total - target)
    # The certificate is a mass of at least the target: whatever was not gathered comes after it.
    if mass < target and least > -FLT_MAX:
        count = gather(words, row, inverse, penalties, least)
        mass = weigh(words, count, base)
    if mass < target:
        count = gather_all(words, row, inverse)
        weigh(words, count, base)
    keep_first(words, count, target)
    return count


@compiled
def _estimate(words: Any, row: Any, base: Any, rest: Any) -> Any:
    """A value somewhat below the nucleus's end, outside which `rest` is; -FLT_MAX where most tokens reach it.

    A sample of groups says where; that it misses the few heavy tokens does not matter, as it is asked for the rest.
    """
    inverse, count = f32(words[INVERSE], row), 0
    y = f32s(words[Y], words[VOCABULARY])
    for g in range(0, words[VOCABULARY] // GROUP, max(words[GROUPS] // SAMPLE, 1)):
        load_penalised(words, row, g * GROUP, np.int64(GROUP))
        x = f32s(words[X], GROUP)
        for i in range(GROUP):
            y[count + i] = bounded(np.float32(x[i] * inverse), x[i] > NOTHING)
        count += GROUP
    sampled_rest = np.int64(np.float64(rest) * count / words[VOCABULARY])
    inside = max(weigh(words, count, base) - sampled_rest, np.int64(1))
    least = np.float32(crossing(words, count, inside)[0] - MARGIN)
    reaching = 0
    for i in range(count):
        reaching += int(y[i] >= least)
    return least if 2 * reaching < count else -FLT_MAX


@compiled
def _share(p: Any, mass: Any) -> Any:
    """Mass below which the exclusive prefix of a kept token lies; 1 keeps just the first."""
    return max(np.int64(np.float64(p) * np.float64(mass)), np.int64(1))


@compiled
def _shifted(words: Any, row: Any, tile: Any, base: Any) -> Any:
    at = row * words[TILES] + tile
    distance = base - i64(words[EXPONENTS], at)
    return i64(words[SUMS], at) >> distance if distance <= LARGEST_SHIFT else np.int64(0)


@compiled
def _row_total(words: Any, row: Any, base: Any) -> Any:
    total = np.int64(0)
    for tile in range(words[TILES]):
        total += _shifted(words, row, tile, base)
    return total


@compiled
def _random_below(words: Any, row: Any, total: Any) -> Any:
    return upper_product(philox(i64(words[SEED], row), i64(words[POSITION], row)), total)


@compiled
def _draw_among(words: Any, row: Any, count: Any) -> Any:
    """Inverse CDF over the weighed candidates, in the order of their ids."""
    weights, total = i64s(words[WEIGHTS], count), np.int64(0)
    for i in range(count):
        total += weights[i]
    target = _random_below(words, row, total)
    i, prefix = 0, weights[0]
    while prefix <= target:
        i += 1
        prefix += weights[i]
    return np.int64(i32(words[IDS], i))


@compiled
def _draw_whole(words: Any, row: Any, base: Any) -> Any:
    """Inverse CDF over every token: the tile by its sum, the token at the tile's own exponent."""
    target, inverse = _random_below(words, row, _row_total(words, row, base)), f32(words[INVERSE], row)
    tile, share = 0, _shifted(words, row, 0, base)
    while target >= share:
        target -= share
        tile += 1
        share = _shifted(words, row, tile, base)
    own = i64(words[EXPONENTS], row * words[TILES] + tile)
    target <<= base - own
    start = tile * TILE
    count = min(TILE, words[VOCABULARY] - start)
    load_penalised(words, row, start, count)
    spread_clean(words, count, inverse, np.int32(own))
    mantissas, distances = i32s(words[MANTISSAS], count), i32s(words[DISTANCES], count)
    i, prefix = -1, np.int64(0)
    while prefix <= target:
        i += 1
        prefix += (np.int64(mantissas[i]) << SHIFT) >> np.int64(distances[i])
    return np.int64(start + i)

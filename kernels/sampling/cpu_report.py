"""Logprobs of a row on the CPU: of the drawn token, its rank, and the top n, all from the raw logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kernels.sampling.arithmetic import LARGEST_SHIFT, TILE
from kernels.sampling.cpu_compile import compiled
from kernels.sampling.cpu_elements import NOTHING, exponent, mantissa
from kernels.sampling.cpu_frame import (
    GROUP,
    GROUP_Y,
    GROUPS,
    IDS,
    LOGPROB,
    MAXIMA,
    RANK,
    RAW_EXPONENTS,
    RAW_MAXIMA,
    RAW_SUMS,
    TILES,
    TOP,
    TOP_LOGPROBS,
    TOP_TOKENS,
    VOCABULARY,
    X,
    Y,
)
from kernels.sampling.cpu_intrinsics import f32s, i32s, i64
from kernels.sampling.cpu_scan import SHIFT, load, penalised_row
from kernels.sampling.cpu_select import bound, gather, keep_largest, scale_maxima

UNSCALED = np.float32(1.0)
EXACT_BELOW = 8192.0  # as far as the reduction by ln 2 is exact to the last bit or so


@compiled
def report(words: Any, row: Any, token: Any) -> None:
    """Write the row's logprob, rank, top tokens and their logprobs."""
    first = row * words[GROUPS]
    maxima = RAW_MAXIMA if penalised_row(words, row) else MAXIMA
    top = scale_maxima(words, f32s(words[maxima], first + words[GROUPS])[first:], UNSCALED)
    load(words, row, token, np.int64(1))
    chosen, scale = f32s(words[X], 1)[0], _log_total(words, row, top)
    f32s(words[LOGPROB], row + 1)[row] = _logprob(chosen, top, scale)
    i32s(words[RANK], row + 1)[row] = _at_least(words, row, chosen)
    if words[TOP] > 0:
        _top(words, row, top, scale)


@compiled
def _log_total(words: Any, row: Any, top: Any) -> Any:
    """Logarithm of the sum of exponentials over that of the largest: from the integer weights the scan has summed."""
    if top == NOTHING:
        return 0.0
    if abs(top) >= EXACT_BELOW:
        return _far_log_total(words, row, top)
    n = exponent(top)
    base, total = np.int64(n), np.int64(0)
    for at in range(row * words[TILES], (row + 1) * words[TILES]):
        distance = base - i64(words[RAW_EXPONENTS], at)
        total += i64(words[RAW_SUMS], at) >> distance if distance <= LARGEST_SHIFT else np.int64(0)
    return math.log(np.float64(total)) - math.log(np.float64(np.int64(mantissa(top, n)) << SHIFT))


@compiled
def _far_log_total(words: Any, row: Any, top: Any) -> Any:
    """The same by another pass, where values are so large that their weights are not their exponentials."""
    total = 0.0
    for start in range(0, words[VOCABULARY], TILE):
        count = min(TILE, words[VOCABULARY] - start)
        load(words, row, start, count)
        x = f32s(words[X], count)
        for i in range(count):
            total += math.exp(np.float64(x[i]) - np.float64(top))
    return math.log(total)


@compiled
def _logprob(x: Any, top: Any, scale: Any) -> Any:
    return np.float32(np.float64(x) - np.float64(top) - scale) if x > NOTHING else NOTHING


@compiled
def _at_least(words: Any, row: Any, chosen: Any) -> Any:
    """How many raw logits are at least the chosen one."""
    total, groups = 0, f32s(words[GROUP_Y], words[GROUPS])
    for g in range(groups.shape[0]):
        if groups[g] >= chosen:
            size = min(GROUP, words[VOCABULARY] - g * GROUP)
            load(words, row, g * GROUP, size)
            x = f32s(words[X], size)
            for i in range(size):
                total += int(x[i] >= chosen)
    return np.int32(total)


@compiled
def _top(words: Any, row: Any, top: Any, scale: Any) -> None:
    """The first n of the total order."""
    n, first = words[TOP], row * words[TOP]
    count = keep_largest(words, gather(words, row, UNSCALED, np.bool_(False), bound(words, n)), n)
    y, ids = f32s(words[Y], count), i32s(words[IDS], count)
    _sort(y, ids, count)
    tokens, logprobs = i32s(words[TOP_TOKENS], first + n)[first:], f32s(words[TOP_LOGPROBS], first + n)[first:]
    for i in range(count):
        tokens[i], logprobs[i] = ids[i], _logprob(y[i], top, scale)
    if count < n:
        _fill_with_dead(words, row, tokens[count:], logprobs[count:])


@compiled
def _fill_with_dead(words: Any, row: Any, tokens: Any, logprobs: Any) -> None:
    """Fewer than n tokens live: the rest of the top n are those at -inf, lowest ids first."""
    place, token = 0, 0
    while place < tokens.shape[0]:
        load(words, row, token, np.int64(1))
        if f32s(words[X], 1)[0] == NOTHING:
            tokens[place], logprobs[place] = token, NOTHING
            place += 1
        token += 1


@compiled
def _sort(y: Any, ids: Any, count: Any) -> None:
    """Heap sort into the total order: value descending, id ascending."""
    for root in range(count // 2 - 1, -1, -1):
        _sink(y, ids, root, count)
    for last in range(count - 1, 0, -1):
        y[0], y[last], ids[0], ids[last] = y[last], y[0], ids[last], ids[0]
        _sink(y, ids, 0, last)


@compiled
def _sink(y: Any, ids: Any, root: Any, count: Any) -> None:
    while 2 * root + 1 < count:
        child = 2 * root + 1
        if child + 1 < count and _before(y[child], ids[child], y[child + 1], ids[child + 1]):
            child += 1
        if not _before(y[root], ids[root], y[child], ids[child]):
            return
        y[root], y[child], ids[root], ids[child] = y[child], y[root], ids[child], ids[root]
        root = child


@compiled
def _before(y: Any, i: Any, z: Any, j: Any) -> Any:
    return y > z or (y == z and i < j)

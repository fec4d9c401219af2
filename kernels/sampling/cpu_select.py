"""Exact selection without a sort: where in the total order a running weight crosses a target.

Top-k is the same question with every weight 1. The answer is a threshold and how many of the values equal to it are
kept, lowest ids first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.sampling.arithmetic import FLT_MAX, TILE
from kernels.sampling.cpu_compile import compiled, compiled_reordering
from kernels.sampling.cpu_elements import NOTHING, ZERO, bounded
from kernels.sampling.cpu_frame import (
    BLOCK,
    BLOCK_Y,
    BLOCKS,
    BUCKETS,
    GROUP,
    GROUP_Y,
    GROUPS,
    IDS,
    MANTISSAS,
    MASSES,
    SORTED_WEIGHTS,
    SORTED_Y,
    VOCABULARY,
    WEIGHTS,
    X,
    Y,
)
from kernels.sampling.cpu_intrinsics import f32s, i32s, i64s
from kernels.sampling.cpu_scan import load, load_penalised

LONG = 4096  # above this many candidates a histogram narrows them first
PASSES = 4  # of the histogram; what is then still long is all but equal
LAST = np.float32(BUCKETS - 1)
DEPTH = np.float32(40.0)  # below the largest candidate nothing has weight; the first histogram does not resolve it


@compiled_reordering
def largest(values: Any, start: Any, stop: Any) -> Any:
    """Maximum of a part of an array."""
    best = NOTHING
    for i in range(start, stop):
        best = max(best, values[i])
    return best


@compiled
def scale_maxima(words: Any, maxima: Any, inverse: Any) -> Any:
    """Scaled maxima of a row's groups and of blocks of them into GROUP_Y and BLOCK_Y; the largest."""
    groups, blocks = f32s(words[GROUP_Y], words[GROUPS]), f32s(words[BLOCK_Y], words[BLOCKS])
    for g in range(groups.shape[0]):
        x = maxima[g]
        groups[g] = bounded(np.float32(x * inverse), x > NOTHING)
    for b in range(blocks.shape[0]):
        blocks[b] = largest(groups, b * BLOCK, min(groups.shape[0], b * BLOCK + BLOCK))
    return largest(blocks, 0, blocks.shape[0])


@compiled
def gather(words: Any, row: Any, inverse: Any, penalties: Any, least: Any) -> Any:
    """Scaled values of at least `least` (finite) into Y and their ids, ascending, into IDS; how many."""
    groups, blocks = f32s(words[GROUP_Y], words[GROUPS]), f32s(words[BLOCK_Y], words[BLOCKS])
    count = 0
    for b in range(blocks.shape[0]):
        if blocks[b] >= least:
            for g in range(b * BLOCK, min(groups.shape[0], b * BLOCK + BLOCK)):
                if groups[g] >= least:
                    count = _gather_group(words, row, g * GROUP, inverse, penalties, least, count)
    return count


@compiled
def _gather_group(
    words: Any, row: Any, start: Any, inverse: Any, penalties: Any, least: Any, count: Any
) -> Any:
    size = min(GROUP, words[VOCABULARY] - start)
    if penalties:
        load_penalised(words, row, start, size)
    else:
        load(words, row, start, size)
    x = f32s(words[X], size)
    y, ids = f32s(words[Y], words[VOCABULARY]), i32s(words[IDS], words[VOCABULARY])
    for i in range(size):
        x[i] = bounded(np.float32(x[i] * inverse), x[i] > NOTHING)
    for i in range(size):  # a store for every value and no branch: which ones stay cannot be predicted
        y[count], ids[count] = x[i], start + i
        count += int(x[i] >= least)
    return count


@compiled
def keep_first(words: Any, count: Any, target: Any) -> None:
    """Take the weight from candidates whose exclusive prefix of WEIGHTS in the total order is not below `target`."""
    threshold, ties = crossing(words, count, target)
    y, weights = f32s(words[Y], count), i64s(words[WEIGHTS], count)
    equal = 0
    for i in range(count):
        weights[i] = weights[i] if y[i] >= threshold else 0
        equal += int(y[i] == threshold)
    i = count
    while equal > ties:
        i -= 1
        if y[i] == threshold:
            weights[i] = 0
            equal -= 1


@compiled
def keep_largest(words: Any, count: Any, k: Any) -> Any:
    """Leave of the candidates the first `k` of the total order; how many."""
    if count <= k:
        return count
    y, ids, weights = f32s(words[Y], count), i32s(words[IDS], count), i64s(words[WEIGHTS], count)
    for i in range(count):
        weights[i] = 1
    threshold, ties = crossing(words, count, k)
    kept = 0
    for i in range(count):
        above, equal = y[i] > threshold, y[i] == threshold
        y[kept], ids[kept] = y[i], ids[i]
        kept += int(above or (equal and ties > 0))
        ties -= int(equal)
    return kept


@compiled
def gather_all(words: Any, row: Any, inverse: Any) -> Any:
    """Every token's scaled value, -inf among them, into Y and its id into IDS; how many: V."""
    vocabulary = words[VOCABULARY]
    for start in range(0, vocabulary, TILE):
        size = min(TILE, vocabulary - start)
        load_penalised(words, row, start, size)
        x, y = f32s(words[X], size), f32s(words[Y], vocabulary)[start:]
        ids, first = i32s(words[IDS], vocabulary)[start:], np.int32(start)
        for i in range(size):
            y[i] = bounded(np.float32(x[i] * inverse), x[i] > NOTHING)
            ids[i] = first + np.int32(i)
    return vocabulary


@compiled
def crossing(words: Any, count: Any, target: Any) -> Any:
    """(threshold, how many equal to it are kept) at which the prefix of WEIGHTS reaches `target`; -inf: all are."""
    y, w = f32s(words[SORTED_Y], count), i64s(words[SORTED_WEIGHTS], count)
    from_y, from_w = f32s(words[Y], count), i64s(words[WEIGHTS], count)
    if count <= LONG:
        for i in range(count):
            y[i], w[i] = from_y[i], from_w[i]
        return _quickselect(y, w, count, np.int64(0), target)
    prefix, left = _narrow(words, from_y, from_w, count, np.int64(0), target, DEPTH)
    for _ in range(PASSES):
        if left > LONG:
            prefix, left = _narrow(words, y, w, left, prefix, target, FLT_MAX)
    return _quickselect(y, w, left, prefix, target)


@compiled
def _narrow(words: Any, y: Any, w: Any, count: Any, prefix: Any, target: Any, depth: Any) -> Any:
    """Candidates of the histogram's bucket with the crossing into SORTED_Y, SORTED_WEIGHTS; (prefix, how many)."""
    top, bottom = _span(y, count, depth)
    width = np.float32(top - bottom)
    scale = np.float32(BUCKETS - 1) / width if ZERO < width < FLT_MAX else ZERO  # all in bucket 0: nothing narrowed
    masses, buckets = i64s(words[MASSES], BUCKETS), i32s(words[MANTISSAS], TILE)
    for b in range(BUCKETS):
        masses[b] = 0
    for start in range(0, count, TILE):
        size = _bucket(y[start : min(count, start + TILE)], top, scale, buckets)
        part = w[start:]
        for i in range(size):
            masses[buckets[i]] += part[i]
    chosen = 0
    while chosen < BUCKETS - 1 and prefix + masses[chosen] < target:
        prefix += masses[chosen]
        chosen += 1
    to_y, to_w, left = f32s(words[SORTED_Y], count), i64s(words[SORTED_WEIGHTS], count), 0
    for start in range(0, count, TILE):
        size = _bucket(y[start : min(count, start + TILE)], top, scale, buckets)
        for i in range(size):
            inside = buckets[i] == chosen
            to_y[left], to_w[left] = y[start + i], w[start + i]
            left += int(inside)
    return prefix, left


@compiled
def _span(y: Any, count: Any, depth: Any) -> Any:
    """About the largest and the smallest value, of a sample; at most `depth` apart."""
    top, bottom = y[0], y[0]
    for i in range(0, count, max(count // LONG, 1)):
        top, bottom = max(top, y[i]), min(bottom, y[i])
    return top, max(bottom, np.float32(top - depth))


@compiled
def _bucket(y: Any, top: Any, scale: Any, buckets: Any) -> Any:
    """Bucket of each value, larger values first; how many values."""
    for i in range(y.shape[0]):
        below = np.float32(np.float32(top - y[i]) * scale)
        below = below if below > ZERO else ZERO
        buckets[i] = np.int32(below if below < LAST else LAST)
    return y.shape[0]


@compiled
def _quickselect(y: Any, w: Any, stop: Any, prefix: Any, target: Any) -> Any:
    start = 0
    while start < stop:
        pivot = _median(y[start], y[(start + stop) // 2], y[stop - 1])
        above, equal, mass_above, mass_equal, weight = _partition(y, w, start, stop, pivot)
        if prefix + mass_above >= target:
            stop = above
        elif prefix + mass_above + mass_equal >= target:
            missing = target - prefix - mass_above
            return pivot, (missing + weight - 1) // weight
        else:
            prefix += mass_above + mass_equal
            start = equal
    return NOTHING, np.int64(0)


@compiled
def _median(a: Any, b: Any, c: Any) -> Any:
    return max(min(a, b), min(max(a, b), c))


@compiled
def _partition(y: Any, w: Any, start: Any, stop: Any, pivot: Any) -> Any:
    """Values above, equal, below: ends of the first two, their masses, the weight of one equal value."""
    above, i, below = start, start, stop
    mass_above, mass_equal, weight = np.int64(0), np.int64(0), np.int64(1)
    while i < below:
        if y[i] > pivot:
            y[i], y[above], w[i], w[above] = y[above], y[i], w[above], w[i]
            mass_above += w[above]
            above += 1
            i += 1
        elif y[i] < pivot:
            below -= 1
            y[i], y[below], w[i], w[below] = y[below], y[i], w[below], w[i]
        else:
            mass_equal += w[i]
            weight = w[i]
            i += 1
    return above, i, mass_above, mass_equal, weight


@compiled
def bound(words: Any, k: Any) -> Any:
    """A value that at least `k` tokens reach, from the k-th largest maximum of blocks or groups; else -FLT_MAX."""
    if 2 * k <= words[BLOCKS]:
        return _kth(words, f32s(words[BLOCK_Y], words[BLOCKS]), k)
    if k <= words[GROUPS]:
        return _kth(words, f32s(words[GROUP_Y], words[GROUPS]), k)
    return -FLT_MAX


@compiled
def _kth(words: Any, values: Any, k: Any) -> Any:
    y, w = f32s(words[SORTED_Y], values.shape[0]), i64s(words[SORTED_WEIGHTS], values.shape[0])
    for i in range(values.shape[0]):
        y[i], w[i] = values[i], 1
    return max(_quickselect(y, w, values.shape[0], np.int64(0), np.int64(k))[0], -FLT_MAX)

"""Collecting the few tokens of a row that matter, in id order, into the candidate list of its scratch."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import GROUP, ordered_key
from kernels.sampling.gpu_scan import CAPACITY
from kernels.sampling.gpu_values import raw_values, scaled_values


@triton.jit
def list_groups(scratch: tl.tuple, keys: tl.tensor, pivot: tl.tensor, group_room: tl.constexpr) -> tl.tensor:
    """Write the groups whose maximum's key is >= `pivot` to the group list, in order; returns how many."""
    qualifies = (keys >= pivot).to(tl.int32)
    place = tl.cumsum(qualifies, axis=0) - qualifies
    tl.debug_barrier()
    tl.store(scratch[4] + place, tl.arange(0, group_room), mask=qualifies != 0)
    tl.debug_barrier()
    return tl.sum(qualifies, axis=0)


@triton.jit
def listed_ids(scratch: tl.tuple, start: tl.tensor, stop: tl.tensor, block: tl.constexpr) -> tl.tensor:
    """Token ids at places start .. start + block of the listed groups laid end to end, 2^30 from `stop` on."""
    place = start + tl.arange(0, block)
    group = tl.load(scratch[4] + place // GROUP, mask=place < stop, other=1 << 23)
    return group * GROUP + place % GROUP


@triton.jit
def gather(
    row: tl.tuple,
    scratch: tl.tuple,
    groups: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    penalty: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """Write tokens of the `groups` listed groups with a key in [low, high]; returns how many, stopping past CAPACITY.

    `groups` < 0 means every group.
    """
    found = groups * 0
    start = groups * 0
    stop = tl.where(groups < 0, row[1], groups * GROUP)
    tl.debug_barrier()
    while (start < stop) & (found <= CAPACITY):
        ids = start + tl.arange(0, block)
        if groups >= 0:
            ids = listed_ids(scratch, start, stop, block)
        y = scaled_values(row, ids, ids < row[1], penalty)
        key = ordered_key(y)
        taken = ((key >= low) & (key <= high) & (ids < row[1])).to(tl.int32)
        place = found + tl.cumsum(taken, axis=0) - taken
        stored = (taken != 0) & (place < CAPACITY)
        tl.store(scratch[5] + place, y, mask=stored)
        tl.store(scratch[6] + place, ids, mask=stored)
        found += tl.sum(taken, axis=0)
        start += block
    tl.debug_barrier()
    return found


@triton.jit
def candidates(scratch: tl.tuple, count: tl.tensor) -> tl.tuple:
    """([CAPACITY] values, -inf past `count`; their ids, 2^30 past it)."""
    place = tl.arange(0, CAPACITY)
    y = tl.load(scratch[5] + place, mask=place < count, other=float("-inf"))
    ids = tl.load(scratch[6] + place, mask=place < count, other=1 << 30)
    return y, ids


@triton.jit
def count_raw(
    row: tl.tuple,
    scratch: tl.tuple,
    groups: tl.tensor,
    bound: tl.tensor,
    block: tl.constexpr,
) -> tl.tensor:
    """How many tokens of the listed groups have a raw logit >= `bound`."""
    found = groups * 0
    for start in range(0, groups * GROUP, block):
        ids = listed_ids(scratch, start, groups * GROUP, block)
        x = raw_values(row, ids, ids < row[1])
        found += tl.sum(((x >= bound) & (ids < row[1])).to(tl.int32), axis=0)
    return found

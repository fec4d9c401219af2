"""Finishing a row from its group maxima: which groups can matter, whether what they hold suffices, and the draw."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import FLT_MAX, GROUP, exponent, ordered_key, weight
from kernels.sampling.gpu_draw import NOWHERE, draw_gathered, draw_swept, draw_whole, nucleus_need
from kernels.sampling.gpu_gather import candidates, gather, list_groups
from kernels.sampling.gpu_scan import CAPACITY, tile_totals
from kernels.sampling.gpu_search import largest_key
from kernels.sampling.gpu_values import scaled_values

NUCLEUS_GROUPS = tl.constexpr(512)  # groups tried for a nucleus that the maxima alone cannot fill


@triton.jit
def pivot(
    keys: tl.tensor,
    group_max: tl.tensor,
    wish: tl.tuple,
    low: tl.tensor,
    high: tl.tensor,
    base: tl.tensor,
    total: tl.tensor,
) -> tl.tensor:
    """The key (i64) from which on the tokens are gathered; at least `low`, the least key that survives min-p.

    Top-k: the k-th largest group maximum, below which no token of the top k can lie. Top-p alone: where the maxima
    reach the nucleus' mass by themselves, else the NUCLEUS_GROUPS-th largest, which the mass gathered must confirm.
    """
    alive = (keys >= low).to(tl.int64)
    groups = tl.sum(alive, axis=0)
    measure = alive
    need = wish[1].to(tl.int64)
    wanted = (need > 0) & (need <= groups)
    if (wish[1] == 0) & wish[5]:
        mass = weight(group_max, base)
        need = nucleus_need(wish[3], total)
        reaches = tl.sum(mass, axis=0) >= need
        measure = tl.where(reaches, mass, alive)
        need = tl.where(reaches, need, tl.minimum(groups, NUCLEUS_GROUPS))
        wanted = groups > 0
    key = low
    if wanted:
        key = largest_key(keys, measure, need, low, high).to(tl.int64)
    return key


@triton.jit
def draw_filtered(
    row: tl.tuple,
    scratch: tl.tuple,
    wish: tl.tuple,
    group_max: tl.tensor,
    largest: tl.tensor,
    base: tl.tensor,
    total: tl.tensor,
    penalty: tl.constexpr,
    group_room: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """A draw under min-p, top-k, top-p: from the gathered tokens if they provably hold the survivors."""
    keys = ordered_key(group_max)
    low = ordered_key(tl.maximum(largest + wish[4], -FLT_MAX)).to(tl.int64)
    high = ordered_key(largest).to(tl.int64)
    key = pivot(keys, group_max, wish, low, high, base, total)
    listed = list_groups(scratch, keys, key, group_room)
    found = gather(row, scratch, listed, key, high, penalty, block)
    y, ids = candidates(scratch, found)
    suffices = found <= CAPACITY
    if (wish[1] == 0) & wish[5]:
        suffices = suffices & (tl.sum(weight(y, base), axis=0) >= nucleus_need(wish[3], total))
    token = found * 0
    if suffices:
        token = draw_gathered(y, ids, wish, key, high, base, total)
    else:
        token = draw_swept(row, scratch, wish, low, high, base, total, penalty, block)
    return token


@triton.jit
def first_largest(
    row: tl.tuple, group_max: tl.tensor, largest: tl.tensor, penalty: tl.constexpr, group_room: tl.constexpr
) -> tl.tensor:
    """The lowest id whose value is the row's maximum."""
    group = tl.min(tl.where(group_max == largest, tl.arange(0, group_room), group_room), axis=0)
    ids = group * GROUP + tl.arange(0, GROUP)
    return tl.min(tl.where(scaled_values(row, ids, ids < row[1], penalty) == largest, ids, NOWHERE), axis=0)


@triton.jit
def finish(
    row: tl.tuple,
    scratch: tl.tuple,
    wish: tl.tuple,
    tiles: tl.tensor,
    penalty: tl.constexpr,
    weighted: tl.constexpr,
    filtered: tl.constexpr,
    group_room: tl.constexpr,
    tile_room: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """The row's token (i32)."""
    groups = tl.arange(0, group_room)
    group_max = tl.load(
        scratch[0] + groups, mask=groups * GROUP < row[1], other=float("-inf")
    )
    largest = tl.max(group_max, axis=0)
    token = tiles * 0
    if largest > float("-inf"):
        if wish[0]:
            token = first_largest(row, group_max, largest, penalty, group_room)
        else:
            base = exponent(largest).to(tl.int32)
            total = base.to(tl.int64) * 0
            filters = (wish[5] == 0) | wish[2]
            if weighted:  # noqa: SIM102 - one is known when compiling, one is not
                if wish[5]:
                    top, totals = tile_totals(scratch, tiles, base, tile_room)
                    total = tl.sum(totals, axis=0)
                    if filters == 0:
                        token = draw_whole(row, wish[6], base, top, totals, penalty, block, tile_room)
            if filtered:  # noqa: SIM102 - as above
                if filters:
                    token = draw_filtered(
                        row, scratch, wish, group_max, largest, base, total, penalty, group_room, block
                    )
    return token

"""Drawing one token: over all tokens, over a gathered few, or, where those do not suffice, by reading the row again.

`wish` is a tuple of scalars (greedy, top_k or 0 where off, filters by top-p, top_p, log_min_p, whole: neither top-k
nor min-p, random word). A selection is a key `tau` and a number of `ties`: tokens above tau survive, and of those at
tau the first `ties` by id.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import NO_KEY, TILE, ordered_key, value_of, weight
from kernels.sampling.gpu_gather import candidates, gather
from kernels.sampling.gpu_scan import CAPACITY
from kernels.sampling.gpu_search import SWEEP_WAYS, largest_key, narrow, tally
from kernels.sampling.gpu_values import scaled_values

ALL = tl.constexpr(1 << 30)  # more ties than there are tokens
NOWHERE = tl.constexpr(1 << 30)  # an id past every token


@triton.jit
def nucleus_need(top_p: tl.tensor, total: tl.tensor) -> tl.tensor:
    """The mass (i64) that top-p keeps, at least 1 so that the first token stays."""
    return tl.maximum((top_p.to(tl.float64) * total.to(tl.float64)).to(tl.int64), 1)


@triton.jit
def nucleus_ties(
    need: tl.tensor, mass_above: tl.tensor, tau: tl.tensor, before: tl.tensor, ties: tl.tensor, base: tl.tensor
) -> tl.tensor:
    """How many tokens at `tau` the nucleus keeps when `ties` of those at `before` were left."""
    each = weight(value_of(tau), base)
    kept = (need - mass_above + each - 1) // tl.maximum(each, 1)
    kept = tl.where(each > 0, tl.minimum(kept, ALL), ALL).to(tl.int32)
    return tl.where(tau == before, tl.minimum(ties, kept), kept)


@triton.jit
def walk(
    row: tl.tuple,
    start: tl.tensor,
    stop: tl.tensor,
    tau: tl.tensor,
    ties: tl.tensor,
    base: tl.tensor,
    target: tl.tensor,
    penalty: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """The first id in [start, stop) at which the selection's inclusive mass, relative to `base`, passes `target`."""
    token = start * 0 + NOWHERE
    tied = start * 0
    running = target * 0
    while (token == NOWHERE) & (start < stop):
        ids = start + tl.arange(0, block)
        y = scaled_values(row, ids, ids < row[1], penalty)
        key = ordered_key(y)
        tie = (key == tau).to(tl.int32)
        rank = tied + tl.cumsum(tie, axis=0) - tie
        kept = (key > tau) | ((tie != 0) & (rank < ties))
        mass = tl.where(kept, weight(y, base), 0)
        inclusive = running + tl.cumsum(mass, axis=0)
        token = tl.min(tl.where(inclusive > target, ids, NOWHERE), axis=0)
        running += tl.sum(mass, axis=0)
        tied += tl.sum(tie, axis=0)
        start += block
    return token


@triton.jit
def draw_whole(
    row: tl.tuple,
    word: tl.tensor,
    base: tl.tensor,
    top: tl.tensor,
    totals: tl.tensor,
    penalty: tl.constexpr,
    block: tl.constexpr,
    tile_room: tl.constexpr,
) -> tl.tensor:
    """A draw over every token: the tile by its shifted sum, then inside the tile at the tile's own exponent."""
    index = tl.arange(0, tile_room)
    target = tl.umulhi(word, tl.sum(totals, axis=0).to(tl.uint64)).to(tl.int64)
    inclusive = tl.cumsum(totals, axis=0)
    tile = tl.sum((inclusive <= target).to(tl.int32), axis=0)
    here = index == tile
    own = tl.sum(tl.where(here, top, 0), axis=0)
    before = tl.sum(tl.where(index < tile, totals, 0), axis=0)
    inside = (target - before) << (base - own).to(tl.int64)
    return walk(row, tile * TILE, (tile + 1) * TILE, NO_KEY, 0, own, inside, penalty, block)


@triton.jit
def draw_gathered(
    y: tl.tensor,
    ids: tl.tensor,
    wish: tl.tuple,
    low: tl.tensor,
    high: tl.tensor,
    base: tl.tensor,
    total: tl.tensor,
) -> tl.tensor:
    """A draw when the survivors are known to lie among `y`: every token with a key in [low, high], in id order.

    `total` is the mass of the whole row, used where the row filters by top-p alone.
    """
    keys = ordered_key(y)
    mass = weight(y, base)
    tau = low.to(tl.int32)
    ties = tau * 0 + ALL
    if wish[1] > 0:
        tau = largest_key(keys, (keys >= tau).to(tl.int32), wish[1], low, high)
        ties = wish[1] - tl.sum((keys > tau).to(tl.int32), axis=0)
    if wish[2]:
        above = tl.sum(tl.where(keys > tau, mass, 0), axis=0)
        tied = tl.minimum(tl.sum((keys == tau).to(tl.int32), axis=0), ties)
        left = above + tied.to(tl.int64) * weight(value_of(tau), base)
        need = nucleus_need(wish[3], tl.where(wish[5], total, left))
        nucleus = largest_key(keys, mass, need, tau.to(tl.int64), high)
        above = tl.sum(tl.where(keys > nucleus, mass, 0), axis=0)
        ties = nucleus_ties(need, above, nucleus, tau, ties, base)
        tau = nucleus
    tie = (keys == tau).to(tl.int32)
    rank = tl.cumsum(tie, axis=0) - tie
    mass = tl.where((keys > tau) | ((tie != 0) & (rank < ties)), mass, 0)
    target = tl.umulhi(wish[6], tl.sum(mass, axis=0).to(tl.uint64)).to(tl.int64)
    return tl.min(tl.where(tl.cumsum(mass, axis=0) > target, ids, NOWHERE), axis=0)


@triton.jit
def select_swept(
    row: tl.tuple,
    scratch: tl.tuple,
    need: tl.tensor,
    by_mass: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    base: tl.tensor,
    penalty: tl.constexpr,
    block: tl.constexpr,
) -> tl.tuple:
    """(largest key in [low, high] that reaches `need`, count above it, mass above it) from the whole row."""
    low, high, count, mass = narrow(row, need, by_mass, low, high, base, CAPACITY, penalty, block)
    if low < high:
        found = gather(row, scratch, row[1] * 0 - 1, low, high, penalty, block)
        y, _ = candidates(scratch, found)
        keys = ordered_key(y)
        masses = weight(y, base)
        measure = tl.where(by_mass, masses, (keys >= low).to(tl.int64))
        key = largest_key(keys, measure, need - tl.where(by_mass, mass, count), low, high)
        count += tl.sum((keys > key).to(tl.int64), axis=0)
        mass += tl.sum(tl.where(keys > key, masses, 0), axis=0)
        low = key.to(tl.int64)
    return low.to(tl.int32), count, mass


@triton.jit
def draw_swept(
    row: tl.tuple,
    scratch: tl.tuple,
    wish: tl.tuple,
    low: tl.tensor,
    high: tl.tensor,
    base: tl.tensor,
    total: tl.tensor,
    penalty: tl.constexpr,
    block: tl.constexpr,
) -> tl.tensor:
    """A draw that needs no certificate: top-k, then top-p, each by narrowing over the whole row, then a walk."""
    floor = tl.zeros([SWEEP_WAYS], dtype=tl.int32) + low.to(tl.int32)
    counts, masses = tally(row, floor, base, penalty, block)
    left = tl.max(counts, axis=0)
    mass = tl.max(masses, axis=0)
    tau = low.to(tl.int32)
    ties = tau * 0 + ALL
    for step in range(2):
        by_mass = step == 1
        need = wish[1].to(tl.int64)
        wanted = (need > 0) & (need < left)
        if by_mass:
            need = nucleus_need(wish[3], tl.where(wish[5], total, mass))
            wanted = wish[2] & (need <= mass)
        if wanted:
            key, count_above, mass_above = select_swept(
                row, scratch, need, by_mass, tau.to(tl.int64), high, base, penalty, block
            )
            kept = (need - count_above).to(tl.int32)
            if by_mass:
                kept = nucleus_ties(need, mass_above, key, tau, ties, base)
            tau = key
            ties = kept
            mass = mass_above + kept.to(tl.int64) * weight(value_of(tau), base)
    target = tl.umulhi(wish[6], mass.to(tl.uint64)).to(tl.int64)
    return walk(row, row[1] * 0, row[1], tau, ties, base, target, penalty, block)

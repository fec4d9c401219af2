"""Log-probabilities of raw logits on the GPU: the drawn token's, its rank, and the top n with theirs."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import GROUP, NO_KEY, clean, ordered_key, value_of
from kernels.sampling.gpu_gather import count_raw, list_groups
from kernels.sampling.gpu_scan import tile_maxima
from kernels.sampling.gpu_values import raw_values

LAST_ID = tl.constexpr(0x7FFFFFFF)


@triton.jit
def log_normaliser(
    scratch: tl.tuple, tiles: tl.tensor, tile_room: tl.constexpr
) -> tl.tuple:
    """(largest raw logit, log of the sum of exponentials relative to it)."""
    tile = tl.arange(0, tile_room)
    tops = tile_maxima(scratch[2], tiles, tile_room)
    top = tl.max(tops, axis=0)
    sums = tl.load(scratch[3] + tile, mask=tile < tiles, other=0.0)
    scale = tl.where(tops > float("-inf"), tl.exp(tops - tl.where(top > float("-inf"), top, 0.0)), 0.0)
    return top, tl.log(tl.sum(sums * scale, axis=0))


@triton.jit
def log_probability(x: tl.tensor, top: tl.tensor, normaliser: tl.tensor) -> tl.tensor:
    """Of a raw logit; -inf in a row where nothing is above -inf."""
    return tl.where(x > float("-inf"), x - top - normaliser, float("-inf"))


@triton.jit
def report(
    row: tl.tuple,
    scratch: tl.tuple,
    out: tl.tuple,
    token: tl.tensor,
    tiles: tl.tensor,
    top_count: tl.tensor,
    group_room: tl.constexpr,
    tile_room: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write to `out`, the row's (logprob, rank, top_tokens, top_logprobs)."""
    groups = tl.arange(0, group_room)
    group_max = tl.load(
        scratch[2] + groups, mask=groups * GROUP < row[1], other=float("-inf")
    )
    top, normaliser = log_normaliser(scratch, tiles, tile_room)
    keys = ordered_key(group_max)
    x = clean(tl.load(row[0] + token))
    tl.store(out[0], log_probability(x, top, normaliser))
    listed = list_groups(scratch, keys, ordered_key(x), group_room)
    tl.store(out[1], count_raw(row, scratch, listed, x, block))
    last = token.to(tl.int64) * 0 + 0x7FFFFFFFFFFFFFFF
    for place in range(top_count):
        best = tl.max(keys, axis=0)
        group = tl.min(tl.where(keys == best, groups, group_room), axis=0)
        ids = group * GROUP + tl.arange(0, GROUP)
        key = ordered_key(raw_values(row, ids, ids < row[1]))
        rank = (key.to(tl.int64) << 32) | (ids ^ LAST_ID).to(tl.int64)
        untaken = (rank < last) & (ids < row[1])
        last = tl.max(tl.where(untaken, rank, -0x7FFFFFFFFFFFFFFF), axis=0)
        tl.store(out[2] + place, (last & LAST_ID).to(tl.int32) ^ LAST_ID)
        tl.store(out[3] + place, log_probability(value_of((last >> 32).to(tl.int32)), top, normaliser))
        following = tl.max(tl.where(untaken & (rank < last), key, NO_KEY), axis=0)
        keys = tl.where(groups == group, following, keys)

"""The one streaming read of a row: group maxima, tile weights and, for logprobs, raw maxima and exponential sums.

`scratch` is a tuple of pointers into the row's own stretch of the workspace: (group_max, tile_sum, raw_group_max,
raw_tile_sum, group_list, candidate_values, candidate_ids).
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import GROUP, TILE, exponent, weight
from kernels.sampling.gpu_values import raw_values, scaled_from_raw

GROUPS_PER_TILE = tl.constexpr(TILE.value // GROUP.value)
CAPACITY = tl.constexpr(2048)  # candidates the registers of a finishing program hold


def workspace_words(tiles: int) -> int:
    """8-byte words of workspace per row."""
    groups = tiles * int(GROUPS_PER_TILE.value)
    return tiles + -(-tiles // 2) + groups // 2 * 3 + int(CAPACITY.value)


@triton.jit
def scratch_of(workspace: tl.tensor, b: tl.tensor, tiles: tl.tensor) -> tl.tuple:
    """Row `b`'s `scratch` in the workspace (i64 words, laid out as `workspace_words` counts them)."""
    halves = tiles * (GROUPS_PER_TILE // 2)
    lists = tiles + (tiles + 1) // 2
    start = workspace + b.to(tl.int64) * (lists + 3 * halves + CAPACITY)
    floats = tl.pointer_type(tl.float32)
    ints = tl.pointer_type(tl.int32)
    return (
        (start + lists).to(floats, bitcast=True),
        start,
        (start + lists + halves).to(floats, bitcast=True),
        (start + tiles).to(floats, bitcast=True),
        (start + lists + 2 * halves).to(ints, bitcast=True),
        (start + lists + 3 * halves).to(floats, bitcast=True),
        (start + lists + 3 * halves + CAPACITY // 2).to(ints, bitcast=True),
    )


@triton.jit
def scan_tile(
    row: tl.tuple,
    scratch: tl.tuple,
    tile: tl.tensor,
    weighs: tl.tensor,
    penalty: tl.constexpr,
    weighted: tl.constexpr,
    reporting: tl.constexpr,
) -> None:
    """Summarise the TILE tokens of `tile`; their weights only where the row `weighs` all of them."""
    groups = tl.arange(0, GROUPS_PER_TILE)
    ids = tile * TILE + groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = ids < row[1]
    x = raw_values(row, ids, inside)
    place = tile * GROUPS_PER_TILE + groups
    if reporting:
        raw_max = tl.max(x, axis=1)
        tl.store(scratch[2] + place, raw_max)
        top = tl.max(raw_max, axis=0)
        top = tl.where(top > float("-inf"), top, 0.0)  # a tile with nothing in it sums to 0, not NaN
        tl.store(scratch[3] + tile, tl.sum(tl.sum(tl.exp(x - top), axis=1), axis=0))
    y = scaled_from_raw(row, x, ids, inside, penalty)
    group_max = tl.max(y, axis=1)
    tl.store(scratch[0] + place, group_max)
    if weighted:  # noqa: SIM102 - one is known when compiling, one is not
        if weighs:
            base = exponent(tl.max(group_max, axis=0)).to(tl.int32)
            tl.store(scratch[1] + tile, tl.sum(tl.sum(weight(y, base), axis=1), axis=0))


@triton.jit
def tile_maxima(group_max: tl.tensor, tiles: tl.tensor, tile_room: tl.constexpr) -> tl.tensor:
    """[tile_room] maximum of each tile from the row's group maxima, -inf past the end."""
    tile = tl.arange(0, tile_room)
    place = tile[:, None] * GROUPS_PER_TILE + tl.arange(0, GROUPS_PER_TILE)[None, :]
    inside = (tile < tiles)[:, None] & (place >= 0)
    return tl.max(tl.load(group_max + place, mask=inside, other=float("-inf")), axis=1)


@triton.jit
def tile_totals(
    scratch: tl.tuple, tiles: tl.tensor, base: tl.tensor, tile_room: tl.constexpr
) -> tl.tuple:
    """[tile_room] exponent of each tile (i32) and its weight sum (i64) shifted down to the row's exponent `base`."""
    tile = tl.arange(0, tile_room)
    top = exponent(tile_maxima(scratch[0], tiles, tile_room)).to(tl.int32)
    sums = tl.load(scratch[1] + tile, mask=tile < tiles, other=0)
    distance = tl.minimum(base - top, 62)
    return top, sums >> distance.to(tl.int64)

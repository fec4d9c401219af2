"""Finding the value at which a sum over the largest elements reaches what is needed, without sorting.

Every filter comes down to the largest key t whose elements >= t together reach a count or a mass. Each round tries
several t at once, so a round is one reduction.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling.device import ordered_key, value_of, weight
from kernels.sampling.gpu_values import scaled_values

WAYS = tl.constexpr(4)  # thresholds a round tries among elements in registers, half as many beyond MANY elements
MANY = tl.constexpr(2048)
SWEEP_WAYS = tl.constexpr(4)  # and in a round that reads the whole row


@triton.jit
def largest_key(
    keys: tl.tensor, measure: tl.tensor, need: tl.tensor, low: tl.tensor, high: tl.tensor
) -> tl.tensor:
    """The largest t in [low, high] (i64) with sum(measure[keys >= t]) >= need, as i32; `low` where there is none."""
    ways: tl.constexpr = WAYS if keys.shape[0] <= MANY else WAYS // 2
    step = tl.arange(0, ways).to(tl.int64) + 1
    while low < high:
        tries = low + ((high - low) * step + (ways - 1)) // ways
        above = keys[None, :] >= tries.to(tl.int32)[:, None]
        reached = tl.sum(tl.where(above, measure[None, :], 0), axis=1) >= need
        low, high = (
            tl.maximum(low, tl.max(tl.where(reached, tries, low), axis=0)),
            tl.minimum(high, tl.min(tl.where(reached, high, tries - 1), axis=0)),
        )
    return low.to(tl.int32)


@triton.jit
def tally(
    row: tl.tuple,
    tries: tl.tensor,
    base: tl.tensor,
    penalty: tl.constexpr,
    block: tl.constexpr,
) -> tl.tuple:
    """(how many tokens of the row, their weight) at or above each key of `tries` [SWEEP_WAYS]; both i64."""
    count = tl.zeros([SWEEP_WAYS], dtype=tl.int64)
    mass = tl.zeros([SWEEP_WAYS], dtype=tl.int64)
    for start in range(0, row[1], block):
        ids = start + tl.arange(0, block)
        y = scaled_values(row, ids, ids < row[1], penalty)
        above = ordered_key(y)[None, :] >= tries[:, None]
        count += tl.sum(above.to(tl.int32), axis=1)
        mass += tl.sum(tl.where(above, weight(y, base)[None, :], 0), axis=1)
    return count, mass


@triton.jit
def thresholds(low: tl.tensor, high: tl.tensor, by_value: tl.tensor) -> tl.tensor:
    """[SWEEP_WAYS] keys in (low, high], evenly spaced by value or by key, the last one `high`."""
    step = tl.arange(0, SWEEP_WAYS) + 1
    even = low + ((high - low) * step.to(tl.int64) + (SWEEP_WAYS - 1)) // SWEEP_WAYS
    bottom = value_of(low.to(tl.int32))
    span = value_of(high.to(tl.int32)) - bottom
    linear = ordered_key(bottom + span * (step.to(tl.float32) / SWEEP_WAYS)).to(tl.int64)
    spread = tl.where(step == SWEEP_WAYS, high, tl.minimum(tl.maximum(linear, low + 1), high))
    return tl.where(by_value, spread, even)


@triton.jit
def narrow(
    row: tl.tuple,
    need: tl.tensor,
    by_mass: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    base: tl.tensor,
    enough: tl.tensor,
    penalty: tl.constexpr,
    block: tl.constexpr,
) -> tl.tuple:
    """Shrink [low, high] around the key that reaches `need` until at most `enough` tokens lie in it.

    Returns (low, high, count above high, mass above high). Spacing by value is quick on smooth logits, by key it
    ends in 16 rounds whatever they are, so the two alternate.
    """
    count_above = need * 0
    mass_above = need * 0
    count_from_low = need * 0 + row[1]
    by_value = high >= low
    while (low < high) & (count_from_low - count_above > enough):
        tries = thresholds(low, high, by_value)
        count, mass = tally(row, tries.to(tl.int32), base, penalty, block)
        reached = tl.where(by_mass, mass, count) >= need
        low = tl.maximum(low, tl.max(tl.where(reached, tries, low), axis=0))
        high = tl.minimum(high, tl.min(tl.where(reached, high, tries - 1), axis=0))
        count_from_low = tl.minimum(count_from_low, tl.min(tl.where(reached, count, count_from_low), axis=0))
        count_above = tl.maximum(count_above, tl.max(tl.where(reached, count_above, count), axis=0))
        mass_above = tl.maximum(mass_above, tl.max(tl.where(reached, mass_above, mass), axis=0))
        by_value = by_value == 0
    return low, high, count_above, mass_above

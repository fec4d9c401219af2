"""The arithmetic of arithmetic.py for Triton: the same operations in the same order, hence the same bits.

Launches must say `enable_fp_fusion=False`: a contracted multiply-add would round once where numpy rounds twice.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.sampling import arithmetic

TILE = tl.constexpr(arithmetic.TILE)
GROUP = tl.constexpr(128)  # consecutive ids whose maximum the scan keeps
FLT_MAX = tl.constexpr(float(arithmetic.FLT_MAX))
GREEDY_BELOW = tl.constexpr(float(arithmetic.GREEDY_BELOW))
LOG2E = tl.constexpr(float(arithmetic.LOG2E))
LN2_A = tl.constexpr(float(arithmetic.LN2_A))
LN2_B = tl.constexpr(float(arithmetic.LN2_B))
LN2_C = tl.constexpr(float(arithmetic.LN2_C))
EXPONENT_LIMIT = tl.constexpr(float(arithmetic.EXPONENT_LIMIT))
P0, P1, P2, P3, P4, P5 = (tl.constexpr(float(c)) for c in arithmetic.EXP_COEFFICIENTS)
MANTISSA_SCALE = tl.constexpr(float(arithmetic.MANTISSA_SCALE))
WEIGHT_SHIFT = tl.constexpr(arithmetic.WEIGHT_SHIFT)
LARGEST_SHIFT = tl.constexpr(arithmetic.LARGEST_SHIFT)
PHILOX_ROUNDS = tl.constexpr(arithmetic.PHILOX_ROUNDS)
NO_KEY = tl.constexpr(-(2**31))  # below the key of every float


@triton.jit
def clean(logits: tl.tensor) -> tl.tensor:
    """fp32 logits with NaN as -inf, +inf as the largest float and no negative zero."""
    x = logits.to(tl.float32)
    x = tl.where(x != x, float("-inf"), x)
    return tl.minimum(x, FLT_MAX) + 0.0


@triton.jit
def bounded(x: tl.tensor, alive: tl.tensor) -> tl.tensor:
    """`x` without negative zero and, where `alive`, within the finite floats; -inf elsewhere."""
    return tl.where(alive, tl.maximum(tl.minimum(x + 0.0, FLT_MAX), -FLT_MAX), float("-inf"))


@triton.jit
def penalised(
    x: tl.tensor,
    count: tl.tensor,
    in_prompt: tl.tensor,
    repetition: tl.tensor,
    frequency: tl.tensor,
    presence: tl.tensor,
) -> tl.tensor:
    """Clean logits after repetition, frequency and presence penalties."""
    given = count > 0
    scaled = x * tl.where(x > 0, tl.div_rn(1.0, repetition), repetition)
    y = tl.where(given | in_prompt, scaled, x)  # a factor of 1 changes nothing
    y = tl.where(given, y - frequency * count.to(tl.float32), y)
    y = tl.where(given, y - presence, y)
    return bounded(y, x > float("-inf"))


@triton.jit
def exponent(y: tl.tensor) -> tl.tensor:
    """n of `exponent_mantissa`, still fp32."""
    n = tl.floor(y * LOG2E + 0.5)
    return tl.minimum(tl.maximum(n, -EXPONENT_LIMIT), EXPONENT_LIMIT)


@triton.jit
def weight(y: tl.tensor, base: tl.tensor) -> tl.tensor:
    """Integer weight (i64) of fp32 `y` relative to the i32 exponent `base`; 0 at -inf."""
    n = exponent(y)
    r = ((y - n * LN2_A) - n * LN2_B) - n * LN2_C
    r = tl.minimum(tl.maximum(r, -0.5), 0.5)
    e = ((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5
    e = (e * (r * r) + r) + 1.0
    m = (e * MANTISSA_SCALE).to(tl.int32)
    m = tl.where(y > float("-inf"), m, 0)
    distance = tl.minimum(base - n.to(tl.int32), LARGEST_SHIFT)
    return (m.to(tl.int64) << WEIGHT_SHIFT) >> distance.to(tl.int64)


@triton.jit
def random_word(seed: tl.tensor, position: tl.tensor) -> tl.tensor:
    """The 64-bit Philox4x32-10 word (u64) of i64 scalars `seed` and `position`."""
    low, high = position.to(tl.uint32), (position.to(tl.uint64) >> 32).to(tl.uint32)
    zero = low * 0
    first, second, _, _ = tl.philox(seed, low, high, zero, zero, PHILOX_ROUNDS)
    return (second.to(tl.uint64) << 32) | first.to(tl.uint64)


@triton.jit
def ordered_key(x: tl.tensor) -> tl.tensor:
    """i32 keys that compare as `x` does (no NaN, no -0.0)."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def value_of(key: tl.tensor) -> tl.tensor:
    """The float whose `ordered_key` is `key`."""
    bits = key ^ ((key >> 31) & 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True)

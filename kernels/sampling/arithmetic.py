"""The arithmetic every implementation repeats bit for bit: constants, and numpy versions of each operation.

fp32 operations are single IEEE multiplies and adds, rounded to nearest and never contracted to a fused multiply-add
(numpy has none); everything after the exponential is integers. ../README.md says what the steps mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

TILE = 4096  # consecutive token ids whose weights are summed relative to one exponent
GREEDY_BELOW = np.float32(1e-5)  # a temperature below this means the first token of the total order
FLT_MAX = np.float32(float.fromhex("0x1.fffffep+127"))

LOG2E = np.float32(float.fromhex("0x1.715476p+0"))
# ln 2 in three parts: 4 bits, 9 bits (so n * LN2_B is exact for |n| < 2^14) and the rest.
LN2_A = np.float32(float.fromhex("0x1.6p-1"))
LN2_B = np.float32(float.fromhex("0x1.72p-8"))
LN2_C = np.float32(float.fromhex("0x1.7f7d1cp-20"))
EXPONENT_LIMIT = np.float32(2.0**29)  # exponents differ by at most 2^30, an int32
# exp on [-0.5, 0.5] as in Cephes' expf (S. Moshier), highest power first.
EXP_COEFFICIENTS = tuple(
    np.float32(c)
    for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
MANTISSA_SCALE = np.float32(2.0**24)
WEIGHT_SHIFT = 18  # a weight at the base exponent is below 2^43, so 2^19 of them stay below 2^63
LARGEST_SHIFT = 62

PHILOX_ROUNDS = 10
PHILOX_M0, PHILOX_M1 = 0xD2511F53, 0xCD9E8D57
PHILOX_W0, PHILOX_W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def clean(logits: F32) -> F32:
    """Logits with NaN as -inf, +inf as the largest float and no negative zero; any shape."""
    x = np.where(np.isnan(logits), np.float32(-np.inf), logits)
    return np.asarray(np.minimum(x, FLT_MAX) + np.float32(0.0), dtype=np.float32)


def bounded(x: F32, alive: NDArray[np.bool_]) -> F32:
    """`x` without negative zero and, where `alive`, kept within the finite floats; -inf elsewhere."""
    finite = np.clip(x + np.float32(0.0), -FLT_MAX, FLT_MAX)
    return np.where(alive, finite, np.float32(-np.inf))


def exponent_mantissa(y: F32) -> tuple[I32, I32]:
    """(n, m) with exp(y) = m * 2^(n - 24) but for rounding, m in [2^23, 2^25); any shape.

    For -inf the pair means nothing: callers leave those tokens out.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        n = np.floor(y * LOG2E + np.float32(0.5))
        n = np.clip(n, -EXPONENT_LIMIT, EXPONENT_LIMIT)
        r = ((y - n * LN2_A) - n * LN2_B) - n * LN2_C
    r = np.clip(r, np.float32(-0.5), np.float32(0.5))
    e = EXP_COEFFICIENTS[0]
    for coefficient in EXP_COEFFICIENTS[1:]:
        e = e * r + coefficient
    e = (e * (r * r) + r) + np.float32(1.0)
    return n.astype(np.int32), (e * MANTISSA_SCALE).astype(np.int32)


def weight(n: I32, m: I32, base: I32 | np.int32) -> I64:
    """Integer weight of a value with exponent `n` and mantissa `m` relative to exponent `base` >= n."""
    distance = np.asarray(base, dtype=np.int64) - n
    shifted = (m.astype(np.int64) << WEIGHT_SHIFT) >> np.minimum(distance, LARGEST_SHIFT)
    return np.where(distance > LARGEST_SHIFT, np.int64(0), shifted)


def tile_totals(y: F32) -> tuple[I32, I64]:
    """Per tile of one row `y` [V]: the largest exponent and the sum of weights relative to it, [ceil(V / TILE)].

    A tile with nothing above -inf has the exponent -EXPONENT_LIMIT and the sum 0.
    """
    tiles = -(-y.shape[0] // TILE)
    padded = np.full(tiles * TILE, -np.inf, dtype=np.float32)
    padded[: y.shape[0]] = y
    padded = padded.reshape(tiles, TILE)
    n, m = exponent_mantissa(padded)
    alive = padded > -np.inf
    top = np.where(alive, n, np.int32(-EXPONENT_LIMIT)).max(axis=1).astype(np.int32)
    sums = np.where(alive, weight(n, m, top[:, None]), 0).sum(axis=1, dtype=np.int64)
    return top, sums


def shifted_totals(top: I32, sums: I64) -> tuple[np.int32, I64]:
    """The row's exponent and each tile's sum shifted down to it."""
    base = top.max()
    distance = base.astype(np.int64) - top
    shifted = sums >> np.minimum(distance, LARGEST_SHIFT)
    return base, np.where(distance > LARGEST_SHIFT, np.int64(0), shifted)


def nucleus_mass(top_p: np.float32, total: int) -> int:
    """The mass P below which the exclusive prefix of a kept token lies."""
    return int(np.float64(top_p) * np.float64(total))


def philox(seed: I64, position: I64) -> U64:
    """One 64-bit word per row of Philox4x32-10 (Salmon et al., SC'11), key = seed, counter = (position, 0, 0)."""
    key, counter = seed.astype(np.uint64), position.astype(np.uint64)
    k0, k1 = key & _LOW, key >> _HALF
    c0, c1 = counter & _LOW, counter >> _HALF
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    for _ in range(PHILOX_ROUNDS):
        first, second = c0 * np.uint64(PHILOX_M0), c2 * np.uint64(PHILOX_M1)
        c0, c1, c2, c3 = (second >> _HALF) ^ c1 ^ k0, second & _LOW, (first >> _HALF) ^ c3 ^ k1, first & _LOW
        k0, k1 = (k0 + np.uint64(PHILOX_W0)) & _LOW, (k1 + np.uint64(PHILOX_W1)) & _LOW
    return (c1 << _HALF) | c0


def scaled(word: int, total: int) -> int:
    """The upper half of the 128-bit product: a 64-bit uniform word turned into [0, total)."""
    return (word * total) >> 64


def ordered_key(x: F32) -> NDArray[np.uint32]:
    """Keys that compare as unsigned integers the way `x` (no NaN, no -0.0) compares as floats."""
    bits = x.view(np.uint32)
    return np.where(bits >> np.uint32(31) != 0, ~bits, bits | np.uint32(0x80000000))


def total_order_key(x: F32) -> U64:
    """Distinct keys of one row [V]: larger means earlier in the total order (value descending, id ascending)."""
    identity = np.arange(x.shape[-1], dtype=np.uint64)
    return (ordered_key(x).astype(np.uint64) << _HALF) | (_LOW - identity)

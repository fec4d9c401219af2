"""One logit at a time on the CPU: stored bits to fp32, their order as integers, penalties, exponent and mantissa.

The element type of an array of logits says what its bits are: int16 is bf16, uint16 is fp16, int32 is fp32. numba
compiles a kernel once for each. No function here may be compiled with `fastmath`: a contracted multiply-add would
change tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from kernels.sampling import arithmetic
from kernels.sampling.arithmetic import FLT_MAX, LOG2E, MANTISSA_SCALE, PHILOX_ROUNDS
from kernels.sampling.cpu_compile import by_type, compilable, compiled
from kernels.sampling.cpu_intrinsics import float_of_bits, float_of_half

NOTHING = np.float32(-np.inf)
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
LIMIT = arithmetic.EXPONENT_LIMIT
LN2_A, LN2_B, LN2_C = arithmetic.LN2_A, arithmetic.LN2_B, arithmetic.LN2_C
P0, P1, P2, P3, P4, P5 = arithmetic.EXP_COEFFICIENTS
M0, M1 = np.uint64(arithmetic.PHILOX_M0), np.uint64(arithmetic.PHILOX_M1)
W0, W1 = np.uint64(arithmetic.PHILOX_W0), np.uint64(arithmetic.PHILOX_W1)
LOW, UPPER = np.uint64(0xFFFFFFFF), np.uint64(32)


def value(bits: Any) -> Any:
    """fp32 value of one stored logit."""
    raise NotImplementedError("compiled code only")


def order(bits: Any) -> Any:
    """Stored logit as a signed integer that compares as the value does (NaN above +inf or below -inf by its sign)."""
    raise NotImplementedError("compiled code only")


def infinity(bits: Any) -> Any:
    """`order` of +inf in the type of `bits`."""
    raise NotImplementedError("compiled code only")


def unordered(key: Any, bits: Any) -> Any:
    """fp32 value of an `order` key; `bits` only tells the type."""
    raise NotImplementedError("compiled code only")


@by_type(value)
def _value(bits: Any) -> Any:
    if bits == types.int16:
        return lambda bits: float_of_bits(np.int32(np.int32(bits) << np.int32(16)))
    if bits == types.uint16:
        return lambda bits: float_of_half(bits)
    return lambda bits: float_of_bits(bits)


@by_type(order)
def _order(bits: Any) -> Any:
    if bits == types.int32:
        return lambda bits: np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return lambda bits: np.int16(np.int16(bits) ^ ((np.int16(bits) >> np.int16(15)) & np.int16(0x7FFF)))


@by_type(infinity)
def _infinity(bits: Any) -> Any:
    if bits == types.int32:
        return lambda bits: np.int32(0x7F800000)
    constant = np.int16(0x7F80 if bits == types.int16 else 0x7C00)
    return lambda bits: constant


@by_type(unordered)
def _unordered(key: Any, bits: Any) -> Any:
    if bits == types.int32:
        return lambda key, bits: float_of_bits(order(np.int32(key)))
    if bits == types.int16:
        return lambda key, bits: value(order(np.int16(key)))
    return lambda key, bits: value(np.uint16(order(np.int16(key))))


@compilable
def clean(x: Any) -> Any:
    """NaN as -inf, +inf as the largest float, no negative zero."""
    x = x if x == x else NOTHING
    return np.float32((x if x < FLT_MAX else FLT_MAX) + ZERO)


@compilable
def bounded(x: Any, alive: Any) -> Any:
    """`x` within the finite floats, without negative zero; -inf where it was not `alive`."""
    x = x if x < FLT_MAX else FLT_MAX
    x = x if x > -FLT_MAX else -FLT_MAX
    return np.float32(x + ZERO) if alive else NOTHING


@compilable
def penalised(x: Any, count: Any, in_prompt: Any, repetition: Any, frequency: Any, presence: Any) -> Any:
    """Clean `x` of a seen token after its penalties, in vLLM's order and rounding."""
    y = x
    if repetition != ONE and (in_prompt or count > 0):
        y = np.float32(y * (np.float32(ONE / repetition) if x > ZERO else repetition))
    if count > 0:
        y = np.float32(y - np.float32(frequency * np.float32(count)))
        y = np.float32(y - presence)
    return bounded(y, x > NOTHING)


@compilable
def mantissa(y: Any, n: Any) -> Any:
    """exp(y) * 2^(24 - n) as int32, for the fp32 `n` that belongs to `y`."""
    r = ((y - n * LN2_A) - n * LN2_B) - n * LN2_C
    r = r if r < HALF else HALF  # a NaN becomes 0.5: its weight is shifted away whatever it is
    r = r if r > -HALF else -HALF
    e = (((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5) * (r * r) + r
    return np.int32((e + ONE) * MANTISSA_SCALE)


@compilable
def exponent(y: Any) -> Any:
    """The fp32 whole number n of `y`, within +-2^24."""
    n = np.floor(y * LOG2E + HALF)
    n = n if n > -LIMIT else -LIMIT  # NaN too
    return np.float32(n if n < LIMIT else LIMIT)


@compiled
def philox(seed: Any, position: Any) -> Any:
    """The 64-bit word of Philox4x32-10 for a seed and a position (int64 both), as uint64."""
    key, counter = np.uint64(seed), np.uint64(position)
    k0, k1 = key & LOW, key >> UPPER
    c0, c1, c2, c3 = counter & LOW, counter >> UPPER, np.uint64(0), np.uint64(0)
    for _ in range(PHILOX_ROUNDS):
        first, second = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (second >> UPPER) ^ c1 ^ k0, second & LOW, (first >> UPPER) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return (c1 << UPPER) | c0

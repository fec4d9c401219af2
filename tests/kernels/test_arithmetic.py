"""The arithmetic of sampling against double precision, Python's integers and published test vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kernels.sampling import arithmetic

FLOATS = arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32))
VALUES = arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-8000, 8000, width=32))
WORDS = st.integers(0, 2**64 - 1)


def test_philox_equals_the_published_vector() -> None:
    # Random123's known answers, philox4x32 with 10 rounds, zero counter and key: 6627e8d5 e169c58d ...
    zero = np.zeros(1, dtype=np.int64)
    assert int(arithmetic.philox(zero, zero)[0]) == 0xE169C58D6627E8D5


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))
def test_philox_equals_python_integers(seed: int, position: int) -> None:
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    c = [position & 0xFFFFFFFF, position >> 32, 0, 0]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    assert int(arithmetic.philox(np.array([seed]), np.array([position]))[0]) == (c[1] << 32) | c[0]


def test_weights_are_exponentials() -> None:
    y = np.random.default_rng(3).uniform(-80, 80, 200_000).astype(np.float32)
    n, m = arithmetic.exponent_mantissa(y)
    relative = m.astype(np.float64) * 2.0 ** (n - 24.0) / np.exp(y.astype(np.float64)) - 1
    assert np.abs(relative).max() < 1.3e-7
    assert m.min() >= 2**23
    assert m.max() < 2**25


@given(VALUES)
def test_equal_values_weigh_the_same_and_the_largest_most(y: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    n, m = arithmetic.exponent_mantissa(y)
    weights = arithmetic.weight(n, m, n.max())
    exact = [(int(mantissa) << 18) >> min(int(n.max()) - int(e), 62) for e, mantissa in zip(n, m, strict=True)]
    assert weights.tolist() == exact
    assert 2**41 <= int(weights[np.argmax(y)]) == int(weights.max()) < 2**43


@given(VALUES)
def test_the_mass_of_a_row_does_not_depend_on_padding(y: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    padded = np.concatenate([y, np.full(arithmetic.TILE + 5, -np.inf, dtype=np.float32)])
    one = arithmetic.shifted_totals(*arithmetic.tile_totals(y))
    two = arithmetic.shifted_totals(*arithmetic.tile_totals(padded))
    assert one[0] == two[0]
    assert int(one[1].sum()) == int(two[1].sum())


def test_the_heaviest_row_fits() -> None:
    y = np.full(2**19, 0.346, dtype=np.float32)
    _, totals = arithmetic.shifted_totals(*arithmetic.tile_totals(y))
    assert 2**61 < sum(map(int, totals)) == int(totals.sum()) < 2**63


@pytest.mark.parametrize("value", [-np.inf, -3.4028235e38, -1e30, 1e30, 3.4028235e38])
def test_extreme_values_weigh_something_or_nothing(value: float) -> None:
    y = np.array([value, 1.0], dtype=np.float32)
    top, sums = arithmetic.tile_totals(y)
    n, m = arithmetic.exponent_mantissa(np.array([max(value, 1.0)], dtype=np.float32))
    assert (int(top[0]), int(sums[0])) == (int(n[0]), int(m[0]) << 18)


@given(FLOATS)
def test_keys_order_as_floats_do(x: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    cleaned = arithmetic.clean(x)
    assert not np.isnan(cleaned).any()
    assert not np.isposinf(cleaned).any()
    assert not (np.signbit(cleaned) & (cleaned == 0)).any()
    keys = arithmetic.ordered_key(cleaned)
    assert np.array_equal(np.argsort(keys, kind="stable"), np.argsort(cleaned, kind="stable"))
    order = np.argsort(arithmetic.total_order_key(cleaned))[::-1]
    assert np.array_equal(order, torch.sort(torch.from_numpy(cleaned), descending=True, stable=True).indices.numpy())


@given(WORDS, st.integers(1, 2**63 - 1))
def test_a_scaled_word_is_below_the_total(word: int, total: int) -> None:
    target = arithmetic.scaled(word, total)
    assert 0 <= target < total
    assert target * 2**64 <= word * total < (target + 1) * 2**64

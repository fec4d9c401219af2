"""Building `Rows`, `Seen` and `SparseSeen` from plain numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.sampling.rows import Rows, Seen, SparseSeen

VALUES = {
    "temperature": st.floats(0, 1e6, width=32),
    "top_k": st.integers(-1, 2**31 - 1),
    "top_p": st.floats(0, 2, width=32),
    "min_p": st.floats(0, 1, width=32),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "position": st.integers(0, 2**63 - 1),
    "repetition": st.floats(2**-64, 2**64, width=32),
    "frequency": st.floats(-1e6, 1e6, width=32),
    "presence": st.floats(-1e6, 1e6, width=32),
}


@given(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=5))
def test_fields_hold_what_was_given(given_rows: list[dict[str, Any]]) -> None:
    columns: dict[str, Any] = {name: [row[name] for row in given_rows] for name in VALUES}
    rows = Rows.build(**columns)
    assert len(rows) == len(given_rows)
    for name in VALUES:
        assert getattr(rows, name).tolist() == [row[name] for row in given_rows]
    for temperature, inverse in zip(rows.temperature.numpy(), rows.inverse_temperature.numpy(), strict=True):
        assert inverse == (1 if temperature < np.float32(1e-5) else np.float32(1) / temperature)
    for p, logarithm in zip(rows.min_p.tolist(), rows.log_min_p.tolist(), strict=True):
        assert logarithm == (np.float32(math.log(p)) if p > 0 else -math.inf)


def test_numbers_stand_for_every_row() -> None:
    rows = Rows.build(temperature=0.5, top_k=[3, 4, 5], seed=7)
    assert rows.temperature.tolist() == [0.5, 0.5, 0.5]
    assert rows.seed.dtype == rows.position.dtype == torch.int64
    assert all(t.is_contiguous() and t.data_ptr() % 16 == 0 for t in (rows.seed, rows.temperature, rows.log_min_p))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 2**31),
        ("top_k", 1.5),
        ("top_p", -0.01),
        ("min_p", 1.01),
        ("seed", 2**63),
        ("position", -1),
        ("repetition", 0.0),
        ("repetition", math.inf),
        ("frequency", math.nan),
        ("presence", -math.inf),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: float) -> None:
    parameters: dict[str, Any] = {"temperature": 1.0, field: [1, value]}
    with pytest.raises(ValueError, match=rf"^{field} must be "):
        Rows.build(**parameters)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"temperature 2, top_k 3"):
        Rows.build(temperature=[1, 1], top_k=[1, 2, 3])
    with pytest.raises(ValueError, match=r"top_p must be a number or one per row"):
        Rows.build(temperature=1, top_p=[[1.0]])


def test_flags_tell_what_some_row_needs() -> None:
    def flags(**parameters: Any) -> set[str]:
        rows = Rows.build(**parameters)
        return {name[4:] for name in vars(rows) if name.startswith("any_") and getattr(rows, name)}

    assert flags(temperature=0, top_k=5, top_p=0.5, min_p=0.1) == {"greedy"}
    assert flags(temperature=[0, 1]) == {"greedy", "random", "whole"}
    assert flags(temperature=1, top_p=0.9) == {"random", "top_p", "whole"}
    assert flags(temperature=1, top_p=0.9, min_p=0.1) == {"random", "top_p", "min_p"}
    assert flags(temperature=1, top_k=50, vocabulary=100) == {"random", "top_k"}
    assert flags(temperature=1, top_k=100, vocabulary=100) == {"random", "whole"}
    # Without a vocabulary a top_k may turn out to be off: the weight of every token may be needed.
    assert flags(temperature=1, top_k=100) == {"random", "top_k", "whole"}
    for penalty in ({"repetition": 1.1}, {"frequency": 0.1}, {"presence": -0.1}):
        assert "penalty" in flags(temperature=0, **penalty)


TOKENS = st.lists(st.lists(st.integers(-2, 75), max_size=30), min_size=3, max_size=3)


@given(TOKENS, TOKENS)
def test_dense_and_sparse_say_the_same(prompts: list[list[int]], outputs: list[list[int]]) -> None:
    dense = Seen.build(prompts, outputs, vocabulary=70)
    sparse = SparseSeen.build(prompts, outputs, vocabulary=70)
    assert dense.generated is not None
    assert dense.prompt.shape == (3, 3)
    for row in range(3):
        entries = slice(int(sparse.offsets[row]), int(sparse.offsets[row + 1]))
        listed = dict(zip(sparse.tokens[entries].tolist(), sparse.counts[entries].tolist(), strict=True))
        asked = set(sparse.tokens[entries][sparse.in_prompt[entries]].tolist())
        assert listed.keys() == {t for t in prompts[row] + outputs[row] if 0 <= t < 70}
        for token in range(70):
            bit = 1 << (token % 32)
            assert int(dense.counts[row, token]) == listed.get(token, 0) == outputs[row].count(token)
            assert bool(int(dense.prompt[row, token // 32]) & bit) == (token in asked) == (token in prompts[row])
            assert bool(int(dense.generated[row, token // 32]) & bit) == (token in outputs[row])

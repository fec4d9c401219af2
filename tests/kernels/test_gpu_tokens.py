"""The Triton kernels give the reference's tokens: natively where there is a GPU, interpreted where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.sampling import gpu
from kernels.sampling.reference import sample_reference
from kernels.sampling.rows import Rows, Seen
from tests.kernels.sampling_cases import cases

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
ROWS, BATCH = (10_000, 10) if GPU else (120, 5)  # interpreted a row takes about 45 ms
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """`torch.empty` gives NaN and the largest integers: what a kernel does not write, or reads unwritten, shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(before)


def tokens(logits: torch.Tensor, rows: Rows, seen: Seen | None = None, tiles_each: int | None = None) -> list[int]:
    got = gpu.sample(logits.to(DEVICE), rows, seen, tiles_each=tiles_each)
    return [int(token) for token in got.tokens.cpu()]


@pytest.mark.parametrize("bitmap", [True, False], ids=["bitmap", "counts"])
def test_random_rows(bitmap: bool) -> None:
    checked = 0
    for case in cases(11 + bitmap, ROWS // 2, (1, 63, 129, 1000, 300, 4096, 5003), batch=BATCH):
        rows, seen = case.rows(DEVICE), case.seen(DEVICE)
        if not bitmap:
            seen = replace(seen, generated=None)
        expected = sample_reference(case.logits, rows, seen).tokens.tolist()
        assert tokens(case.logits, rows, seen) == expected, case.parameters
        checked += len(expected)
    assert checked >= ROWS // 2


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_k": 3000},
        {"top_k": [2500, 4999], "top_p": 0.7},
        {"top_p": [0.5, 0.97]},
        {"top_p": 0.9999, "min_p": 0.0001},
        {"top_k": 4000, "min_p": 0.4, "top_p": 0.99},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["smooth", "ties", "flat"])
def test_rows_too_wide_for_the_certificate(parameters: dict[str, Any], kind: str) -> None:
    x = torch.from_numpy(np.random.default_rng(5).normal(0, 0.3, (2, 5000)).astype(np.float32))
    x = {"smooth": x, "ties": x.round(decimals=1), "flat": x * 0}[kind]
    rows = Rows.build(temperature=1.0, seed=[3, 4], **parameters, device=DEVICE)
    assert tokens(x, rows) == sample_reference(x, rows).tokens.tolist()


def test_place_in_the_batch_does_not_matter() -> None:
    (case,) = cases(21, 12, (4500,), batch=12)
    whole = tokens(case.logits, case.rows(DEVICE))
    for start, stop in ((0, 1), (7, 8), (4, 9)):
        part = slice(start, stop)
        assert tokens(case.logits[part], case.rows(DEVICE, part)) == whole[part]
    turned = slice(None, None, -1)
    assert tokens(case.logits.flip(0), case.rows(DEVICE, turned)) == whole[turned]


def test_slicing_does_not_matter() -> None:
    (case,) = cases(22, 5, (3 * 4096 + 17,), batch=5)
    rows, seen = case.rows(DEVICE), case.seen(DEVICE)
    expected = sample_reference(case.logits, rows, seen).tokens.tolist()
    for tiles_each in (1, 3, 4):
        assert tokens(case.logits, rows, seen, tiles_each) == expected


def test_rows_may_be_far_apart_and_stay_as_they_are() -> None:
    (case,) = cases(23, 5, (700,), batch=5)
    wide = torch.full((5, 1111), float("nan"), dtype=case.logits.dtype, device=DEVICE)
    wide[:, :700] = case.logits.to(DEVICE)
    before = wide.clone()
    expected = sample_reference(case.logits, case.rows()).tokens.tolist()
    assert tokens(wide[:, :700], case.rows(DEVICE)) == expected
    assert torch.equal(wide.view(torch.uint8), before.view(torch.uint8))


def test_flags_left_on_change_nothing() -> None:
    (case,) = cases(24, 8, (333,), batch=8)
    rows = case.rows(DEVICE)
    flags: dict[str, Any] = dict.fromkeys((name for name in vars(rows) if name.startswith("any_")), True)
    assert tokens(case.logits, replace(rows, **flags)) == tokens(case.logits, rows)


def test_odd_rows() -> None:
    nan, inf = float("nan"), float("inf")
    first = [[nan, -inf, nan], [nan, -2.0, -1.0], [1.0, inf, 3.0]]
    x = torch.tensor([*first, [-inf] * 3, [1.0, 3.0, 3.0], [nan, nan, 5.0]])
    temperature = [1.0, 0.0, 2.0, 0.0, 0.0, 1.0]
    assert tokens(x, Rows.build(temperature=temperature, device=DEVICE)) == [0, 2, 1, 0, 1, 2]
    assert tokens(x, Rows.build(temperature=temperature, top_k=2, device=DEVICE)) == [0, 2, 1, 0, 1, 2]
    assert gpu.sample(x[:0].to(DEVICE), Rows.build(temperature=[], device=DEVICE)).tokens.shape == (0,)


@settings(
    max_examples=200 if GPU else 25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.sampled_from([-3.0, -0.5, 0.0, 0.25, 0.5, 2.0, float("-inf")]), min_size=1, max_size=40),
    st.fixed_dictionaries(
        {
            "temperature": st.floats(0, 3, width=32),
            "top_k": st.integers(-1, 45),
            "top_p": st.floats(0, 1, width=32),
            "min_p": st.floats(0, 1, width=32),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "position": st.integers(0, 2**63 - 1),
            "repetition": st.floats(0.125, 4, width=32),
            "frequency": st.floats(-2, 2, width=32),
            "presence": st.floats(-2, 2, width=32),
        }
    ),
)
def test_any_parameters(values: list[float], parameters: dict[str, Any]) -> None:
    x, rows = torch.tensor([values]), Rows.build(**parameters, device=DEVICE)
    seen = Seen.build([[0, 3]], [[1, 1, 3, 5]], vocabulary=len(values), device=DEVICE)
    assert tokens(x, rows, seen) == sample_reference(x, rows, seen).tokens.tolist()


def test_draws_follow_the_softmax() -> None:
    draws = 200_000 if GPU else 160
    logits = torch.tensor([[1.0, 0.0, -1.0, 0.5]]).expand(draws, 4)
    rows = Rows.build(temperature=1.0, seed=9, position=np.arange(draws), vocabulary=4, device=DEVICE)
    observed = np.bincount(tokens(logits, rows), minlength=4)
    expected = draws * torch.softmax(logits[0].double(), 0).numpy()
    assert ((observed - expected) ** 2 / expected).sum() < 16.3  # one in a thousand, with 3 degrees of freedom


@pytest.mark.parametrize(
    ("logits", "rows", "complaint"),
    [
        (torch.zeros(2, 4, dtype=torch.float64), 2, "fp32, bf16 or fp16"),
        (torch.zeros(4, 2).T, 2, "contiguous"),
        (torch.zeros(2, 4), 3, "rows must be 2"),
        (torch.zeros(2, 0), 2, "vocabulary must have"),
    ],
)
def test_what_does_not_fit_is_refused(logits: torch.Tensor, rows: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        gpu.sample(logits, Rows.build(temperature=[1.0] * rows))

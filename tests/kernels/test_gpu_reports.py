"""Log-probabilities, ranks and top tokens of the Triton kernels."""

from __future__ import annotations

import pytest
import torch

from kernels.sampling import gpu
from kernels.sampling.reference import sample_reference
from kernels.sampling.rows import Rows, Sampled
from tests.kernels.sampling_cases import cases

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")


def assert_same(got: Sampled, expected: Sampled) -> None:
    for name, value in vars(expected).items():
        ours = getattr(got, name).cpu()
        if value.is_floating_point():
            torch.testing.assert_close(ours, value, atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(ours, value), name


@pytest.mark.parametrize("count", [0, 1, 7])
def test_reports_equal_the_reference(count: int) -> None:
    for case in cases(31 + count, 2000 if GPU else 20, (9, 500, 4100, 77), batch=8 if GPU else 4):
        rows, seen = case.rows(DEVICE), case.seen(DEVICE)
        got = gpu.sample(case.logits.to(DEVICE), rows, seen, logprobs=count)
        assert_same(got, sample_reference(case.logits, rows, seen, logprobs=count))


def test_long_lists_are_sorted() -> None:
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(5)).bfloat16()
    x[1] = float("nan")
    x[2, 5] = float("inf")
    rows = Rows.build(temperature=[1.0, 0.0, 0.0], device=DEVICE)
    assert gpu.TOURNAMENT_LIMIT < 400
    got = gpu.sample(x.to(DEVICE), rows, logprobs=400)
    assert_same(got, sample_reference(x, rows, logprobs=400))


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to the vocabulary's 4"):
        gpu.sample(torch.zeros(1, 4, device=DEVICE), Rows.build(temperature=1.0, device=DEVICE), logprobs=5)

"""The reference against what it does not share: double precision, torch's softmax, statistics and worked examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kernels.sampling import arithmetic
from kernels.sampling.reference import (
    Parameters,
    penalised,
    sample_reference,
    scaled,
    seen_tokens,
    support,
    support_float64,
)
from kernels.sampling.rows import Rows, Seen, SparseSeen
from tests.kernels.sampling_cases import cases


def kept(logits: list[float], **parameters: Any) -> list[int]:
    """Ids that survive the filters."""
    y = np.array(logits, dtype=np.float32)
    (p,) = Parameters.of(Rows.build(temperature=1.0, **parameters))
    return [int(i) for i in np.flatnonzero(support(scaled(arithmetic.clean(y), p), p))]


def drawn(logits: list[float], **parameters: Any) -> int:
    return int(sample_reference(torch.tensor([logits]), Rows.build(**parameters)).tokens)


def test_supports_equal_a_double_precision_sort_on_ten_thousand_rows() -> None:
    checked = ambiguous = 0
    for case in cases(1, 10_000, (1, 2, 31, 97, 257, 1000, 33), batch=50):
        rows, seen = case.rows(), case.seen()
        tokens = sample_reference(case.logits, rows, seen).tokens.tolist()
        for row, p in enumerate(Parameters.of(rows)):
            x = arithmetic.clean(case.logits[row].float().numpy())
            y = penalised(x, p, *seen_tokens(seen, row, x.shape[0]))
            checked += 1
            if p.greedy:
                assert tokens[row] == int(np.argmax(y))
                continue
            y = scaled(y, p)
            if y.max() == -np.inf:
                assert tokens[row] == 0
                continue
            survivors, (must, may) = support(y, p), support_float64(y, p)
            assert not (must & ~survivors).any(), p
            assert not (survivors & ~may).any(), p
            assert survivors[tokens[row]], p
            ambiguous += bool((must != may).any())
    assert checked == 10_000
    assert ambiguous < 500  # a mass within 1e-6 of top_p: ties of flat rows, mostly


def high_half(words: NDArray[np.uint64], total: int) -> NDArray[np.int64]:
    """`arithmetic.scaled` for many words."""
    low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    total_low, total_high = np.uint64(total & 0xFFFFFFFF), np.uint64(total >> 32)
    middle = high * total_low + (low * total_low >> np.uint64(32))
    across = low * total_high + (middle & np.uint64(0xFFFFFFFF))
    upper = high * total_high + (middle >> np.uint64(32)) + (across >> np.uint64(32))
    return np.asarray(upper, dtype=np.int64)


@pytest.mark.parametrize("parameters", [{}, {"top_k": 40, "top_p": 0.9}, {"min_p": 0.05}], ids=["all", "k-p", "min-p"])
def test_a_million_draws_follow_the_softmax(parameters: dict[str, Any]) -> None:
    draws, v = 1_000_000, 300
    x = np.random.default_rng(2).normal(0, 1.5, v).astype(np.float32)
    (p,) = Parameters.of(Rows.build(temperature=0.8, **parameters))
    y = scaled(x, p)
    survivors = support(y, p)
    n, m = arithmetic.exponent_mantissa(y)
    weights = np.where(survivors, arithmetic.weight(n, m, n.max()), 0)
    seeds = np.full(draws, 12345)
    targets = high_half(arithmetic.philox(seeds, np.arange(draws)), int(weights.sum()))
    tokens = np.searchsorted(np.cumsum(weights), targets, side="right")
    for position in range(0, draws, 199_999):
        row = Rows.build(temperature=0.8, seed=12345, position=position, **parameters)
        assert int(sample_reference(torch.from_numpy(x)[None], row).tokens) == tokens[position]
    mass = np.where(survivors, np.exp(y.astype(np.float64)), 0)
    expected = draws * mass / mass.sum()
    likely = expected >= 5
    observed = np.bincount(tokens, minlength=v)
    assert observed[~survivors].sum() == 0
    chi_square = float(((observed - expected)[likely] ** 2 / expected[likely]).sum())
    freedom = int(likely.sum()) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    ("parameters", "ids"),
    [
        ({"top_k": 2}, [0, 1]),  # three tokens tie at the top: the lowest ids stay, exactly two
        ({"top_k": 4}, [0, 1, 3, 4]),
        ({"top_k": 0}, [0, 1, 2, 3, 4]),
        ({"top_k": 5}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.0}, [0]),  # at least one
        ({"top_p": 1e-30}, [0]),
        ({"top_p": 0.34}, [0, 1]),  # each of the three holds 0.31
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        ({"top_p": 7.0}, [0, 1, 2, 3, 4]),
        ({"min_p": 1.0}, [0, 1, 3]),
        ({"min_p": 0.1}, [0, 1, 3, 4]),
        ({"min_p": 0.1, "top_k": 3, "top_p": 0.5}, [0, 1]),  # of what is left: a third each
    ],
)
def test_filters_by_hand(parameters: dict[str, Any], ids: list[int]) -> None:
    assert kept([2.0, 2.0, -3.0, 2.0, 0.0], **parameters) == ids


def test_filters_are_sequential() -> None:
    # Alone top_p = 0.6 would keep two of these; of the mass that top_k = 2 leaves the first is 0.5 and so both stay.
    assert kept([1.0, 1.0, 1.0, 1.0], top_p=0.6) == [0, 1, 2]
    assert kept([1.0, 1.0, 1.0, 1.0], top_k=2, top_p=0.6) == [0, 1]
    assert kept([1.0, 1.0, 1.0, 1.0], top_k=2, top_p=0.5) == [0]


def test_odd_values() -> None:
    nan, inf = float("nan"), float("inf")
    assert drawn([nan, -inf, nan], temperature=1.0) == 0
    assert drawn([-inf, -inf], temperature=0.0) == 0
    assert drawn([nan, -2.0, -1.0], temperature=0.0) == 2
    assert drawn([1.0, 3.0, 3.0], temperature=0.0) == 1
    assert drawn([1.0, inf, 3.0], temperature=2.0) == 1
    assert drawn([1.0, 2.0, inf, inf], temperature=0.0) == 2
    assert drawn([-0.0, 0.0], temperature=0.0) == 0
    assert drawn([-3e38, 3e38], temperature=1e-5) == 1


def test_penalties_are_those_of_vllm() -> None:
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(5)) * 4
    prompts, outputs = [[1, 2, 3], [], [7, 7]], [[3, 3, 9], [4], []]
    rows = Rows.build(temperature=1.0, repetition=[1.3, 0.8, 2.0], frequency=[0.5, -0.2, 0.1], presence=[0.3, 0.1, 1.0])
    sparse = SparseSeen.build(prompts, outputs, vocabulary=50)
    dense = Seen.build(prompts, outputs, vocabulary=50)
    for row, p in enumerate(Parameters.of(rows)):
        counts, in_prompt = seen_tokens(sparse, row, 50)
        assert all(np.array_equal(a, b) for a, b in zip((counts, in_prompt), seen_tokens(dense, row, 50), strict=True))
        count, asked = torch.from_numpy(counts), torch.from_numpy(in_prompt)
        expected = x[row].clone()
        factor = torch.where(asked | (count > 0), torch.tensor(float(p.repetition)), 1.0)
        expected *= torch.where(expected > 0, 1.0 / factor, factor)
        expected -= torch.tensor(float(p.frequency)) * count
        expected -= torch.tensor(float(p.presence)) * (count > 0)
        assert np.array_equal(penalised(x[row].numpy(), p, counts, in_prompt), expected.numpy())


def test_reports_are_of_raw_logits() -> None:
    x = (torch.randn(4, 60, generator=torch.Generator().manual_seed(5)) * 3).bfloat16()
    got = sample_reference(x, Rows.build(temperature=0.7, top_k=5, seed=[1, 2, 3, 4]), logprobs=6)
    logprobs = torch.log_softmax(x.float(), dim=-1)
    assert got.logprob is not None
    assert got.rank is not None
    assert got.top_tokens is not None
    assert got.top_logprobs is not None
    chosen = logprobs.gather(1, got.tokens[:, None])
    torch.testing.assert_close(got.logprob, chosen[:, 0], atol=1e-5, rtol=1e-5)
    assert torch.equal(got.rank, (x >= x.gather(1, got.tokens[:, None])).sum(-1).int())
    ids = torch.sort(x.float(), dim=-1, descending=True, stable=True).indices[:, :6]
    assert torch.equal(got.top_tokens, ids.int())
    torch.testing.assert_close(got.top_logprobs, logprobs.gather(1, ids), atol=1e-5, rtol=1e-5)

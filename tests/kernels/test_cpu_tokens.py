"""The CPU path against the reference: the same tokens bit for bit, and what is reported beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.sampling import cpu
from kernels.sampling.reference import sample_reference
from kernels.sampling.rows import Rows, Seen, SparseSeen

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
KINDS = ("normal", "heavy", "flat", "equal", "coarse", "onehot", "masked", "dead", "wild", "tiny", "huge")
VOCABULARIES = (1, 2, 63, 64, 65, 129, 1000, 4095, 4097, 9001)
ROWS = 48


def logits_of(kind: str, vocabulary: int, random: np.random.Generator) -> NDArray[np.float32]:
    """One row of a kind, fp32."""
    normal = random.standard_normal(vocabulary).astype(np.float32)
    match kind:
        case "normal":
            return normal * np.float32(random.uniform(0.5, 6))
        case "heavy":
            return random.standard_t(2, vocabulary).astype(np.float32) * 2
        case "flat":
            return normal * np.float32(1e-3)
        case "equal":
            return np.full(vocabulary, random.choice([-3.5, -0.0, 0.0, 7.0]), dtype=np.float32)
        case "coarse":
            return np.round(normal).astype(np.float32)
        case "onehot":
            row = np.full(vocabulary, -np.inf, dtype=np.float32)
            row[random.integers(vocabulary)] = normal[0]
            return row
        case "masked":
            return np.where(random.random(vocabulary) < 0.9, np.float32(-np.inf), normal * 3)
        case "dead":
            return np.full(vocabulary, -np.inf, dtype=np.float32)
        case "wild":
            odd = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 3.4e38, -3.4e38], dtype=np.float32)
            return np.where(random.random(vocabulary) < 0.05, random.choice(odd, vocabulary), normal)
        case "tiny":
            return normal * np.float32(1e-40)
        case _:
            return normal * np.float32(1e37)


def parameters(random: np.random.Generator, count: int, vocabulary: int, penalties: bool) -> Rows:
    """Rows of every mixture of filters."""

    def some(chance: float, values: list[float], off: float) -> list[float]:
        return [float(random.choice(values)) if random.random() < chance else off for _ in range(count)]

    top_k = some(0.5, [1, 2, 3, 20, 50, vocabulary - 1, vocabulary, vocabulary // 2 + 1, vocabulary + 5], 0)
    return Rows.build(
        temperature=some(0.8, [0.05, 0.7, 1.0, 1.0, 1.3, 5.0, 1e-4, 1e6], 0.0),
        top_k=[int(k) for k in top_k],
        top_p=some(0.5, [0.0, 1e-9, 0.1, 0.5, 0.9, 0.95, 0.999, 0.9999999], 1.0),
        min_p=some(0.3, [1e-30, 0.001, 0.05, 0.5, 1.0], 0.0),
        seed=[int(s) for s in random.integers(-(2**63), 2**63 - 1, count)],
        position=[int(p) for p in random.integers(0, 2**40, count)],
        repetition=some(0.5, [0.5, 1.2, 2.0], 1.0) if penalties else 1.0,
        frequency=some(0.5, [-0.5, 0.3, 2.0], 0.0) if penalties else 0.0,
        presence=some(0.5, [-1.0, 0.4, 2.0], 0.0) if penalties else 0.0,
        vocabulary=vocabulary,
    )


def seen_of(random: np.random.Generator, count: int, vocabulary: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and outputs of each row, some empty."""
    draw = [[random.integers(0, vocabulary, random.integers(0, 40)).tolist() for _ in range(count)] for _ in range(2)]
    return draw[0], draw[1]


class Poisoned(cpu._Workspace):
    """A workspace full of NaN at the start of every call."""

    def lend(self, batch: int, vocabulary: int, threads: int) -> tuple[list[int], list[int], list[int]]:
        lent = super().lend(batch, vocabulary, threads)
        for block in self.blocks.values():
            block.fill_(0xFF)
        return lent


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every output and the workspace start as what nobody may return."""
    empty = torch.empty

    def full(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return empty(*shape, dtype=dtype).fill_(float("nan") if dtype.is_floating_point else 77)

    monkeypatch.setattr(torch, "empty", full)
    monkeypatch.setattr(cpu, "_workspace", Poisoned())


def check(logits: torch.Tensor, rows: Rows, seen: Seen | SparseSeen | None, logprobs: int | None) -> None:
    """Both give the same, logprobs to 1e-5 of their size."""
    got = cpu.sample(logits, rows, seen, logprobs)
    with np.errstate(over="ignore"):
        want = sample_reference(logits, rows, seen, logprobs)
    assert got.tokens.tolist() == want.tokens.tolist()
    for name in ("rank", "top_tokens") if want.logprob is not None else ():
        assert torch.equal(getattr(got, name), getattr(want, name)), name
    for name in ("logprob", "top_logprobs") if want.logprob is not None else ():
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_it_draws_what_the_reference_draws(
    dtype: torch.dtype, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(vocabulary)
    poison(monkeypatch)
    for batch in range(8):
        rows = parameters(random, ROWS, vocabulary, penalties=batch % 2 == 1)
        raw = np.stack([logits_of(KINDS[i % len(KINDS)], vocabulary, random) for i in range(ROWS)])
        logits = torch.from_numpy(raw).to(dtype)
        prompts, outputs = seen_of(random, ROWS, vocabulary)
        seen: Seen | SparseSeen | None = SparseSeen.build(prompts, outputs, vocabulary=vocabulary)
        if batch == 3:
            seen = Seen.build(prompts, outputs, vocabulary=vocabulary)
        logprobs = (None, 1, min(5, vocabulary), vocabulary)[batch // 2] if vocabulary <= 1000 else (None, 5)[batch % 2]
        check(logits, rows, seen, logprobs)


@pytest.mark.parametrize("vocabulary", [32000, 151936])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_large_vocabularies(vocabulary: int, dtype: torch.dtype) -> None:
    random = np.random.default_rng(7)
    kinds = ("normal", "heavy", "flat", "coarse", "masked", "wild", "equal")
    logits = torch.from_numpy(np.stack([logits_of(kind, vocabulary, random) for kind in kinds])).to(dtype)
    for settings_ in (
        {},
        {"top_p": 0.9},
        {"top_p": 0.99999},
        {"top_k": 50, "top_p": 0.9},
        {"top_k": vocabulary - 1},
        {"top_k": vocabulary // 3, "top_p": 0.5},
        {"min_p": 0.02},
        {"min_p": 1e-9, "top_p": 0.7},
    ):
        rows = Rows.build(temperature=[0.9] * len(kinds), seed=list(range(len(kinds))), **settings_)
        check(logits, rows, None, 3)


PROBABILITY = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32))


@given(
    values=st.lists(st.floats(width=16), min_size=1, max_size=70),
    temperature=st.floats(0, 2.0**64, width=32),
    top_k=st.integers(-5, 80),
    top_p=PROBABILITY,
    min_p=PROBABILITY,
    seed=st.integers(-(2**63), 2**63 - 1),
    position=st.integers(0, 2**63 - 1),
    penalties=st.tuples(st.floats(0.0625, 64, width=32), st.floats(-9, 9, width=32), st.floats(-9, 9, width=32)),
    seen=st.tuples(st.lists(st.integers(0, 69), max_size=5), st.lists(st.integers(0, 69), max_size=5)),
)
@example([0.0, -0.0, 0.0], 1.0, 2, 0.5, 0.0, 0, 0, (1.0, 0.0, 0.0), ([], []))
@example([float("nan"), float("-inf")], 1.0, 1, 0.0, 1.0, -1, 0, (2.0, 1.0, 1.0), ([0], [1]))
@settings(max_examples=100)
def test_any_parameters(
    values: list[float],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    seed: int,
    position: int,
    penalties: tuple[float, float, float],
    seen: tuple[list[int], list[int]],
) -> None:
    repetition, frequency, presence = penalties
    rows = Rows.build(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        position=position,
        repetition=repetition,
        frequency=frequency,
        presence=presence,
    )
    vocabulary = len(values)
    sparse = SparseSeen.build([seen[0]], [seen[1]], vocabulary=vocabulary)
    for dtype in DTYPES:
        logits = torch.tensor([values]).to(dtype)
        check(logits, rows, sparse, 1)


def test_no_rows() -> None:
    none = Rows.build(temperature=[])
    assert cpu.sample(torch.empty(0, 9), none).tokens.shape == (0,)


@pytest.mark.parametrize(
    ("logits", "logprobs", "message"),
    [
        (torch.zeros(1, 4, dtype=torch.float64), None, "float64"),
        (torch.zeros(2, 4), None, "2 rows of logits"),
        (torch.zeros(4, 1, 2)[0], 3, "from 0 to 2"),
        (torch.zeros(4, 1).expand(4, 3)[:1], None, "contiguous"),
        (torch.zeros(4), None, r"\[B, V\]"),
    ],
)
def test_it_says_what_it_does_not_take(logits: torch.Tensor, logprobs: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cpu.sample(logits, Rows.build(temperature=[1.0]), None, logprobs)


def test_seen_tokens_may_come_in_any_order_but_for_every_row() -> None:
    logits = torch.zeros(2, 70)
    rows = Rows.build(temperature=[0.0, 0.0], presence=[1.0, 2.0])
    seen = SparseSeen.build([[], []], [[0, 1, 69], [0, 2]], vocabulary=70)
    order = torch.tensor([2, 0, 1, 4, 3])
    mixed = SparseSeen(seen.offsets, seen.tokens[order], seen.counts[order], seen.in_prompt[order])
    assert cpu.sample(logits, rows, mixed).tokens.tolist() == [2, 1]
    with pytest.raises(ValueError, match="2 rows of logits but 1 rows of seen"):
        cpu.sample(logits, rows, SparseSeen.build([[]], [[0]], vocabulary=70))

"""Stop sequences of a batch: the CPU path and the Triton kernel against the reference, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.stopping import Stopped, StopTokens, advance
from kernels.stopping.tokens_gpu import advance as launch
from kernels.stopping.tokens_reference import stopped

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Without a GPU the kernel runs under Triton's interpreter, on CPU tensors."""

Advance = Callable[[StopTokens, Tensor, Tensor], Stopped]


def by_kernel(stops: StopTokens, slots: Tensor, tokens: Tensor) -> Stopped:
    answer = launch(stops.sequences, stops.lengths, stops.bits, slots.to(DEVICE), tokens.to(DEVICE))
    return Stopped(*(each.cpu() for each in answer))


PATHS = pytest.mark.parametrize(("path", "device"), [(advance, "cpu"), (by_kernel, DEVICE)], ids=["cpu", "kernel"])

Row = tuple[list[list[int]], list[int]]
"""Stop sequences, and the tokens that come."""

SEQUENCE = st.lists(st.integers(0, 2), min_size=1, max_size=4)
ROWS = st.lists(
    st.tuples(st.lists(SEQUENCE, max_size=4), st.lists(st.integers(-1, 2), min_size=8, max_size=8)),
    min_size=1,
    max_size=3,
)
TIES: list[Row] = [([[1, 2], [0, 1, 2], [0, 1, 2]], [0, 1, -1, 2, 0, 0, 0, 0])]
OVERLAPS: list[Row] = [([[0, 0, 1], [0, 2]], [0, 0, 0, 2, 0, 0, 0, 0]), ([], [1] * 8)]


def follow(path: Advance, device: str, rows: Sequence[Row], room: tuple[int, int], dtype: torch.dtype) -> None:
    """Runs the rows' tokens through `path`, in slots that another request left behind, each until it stops."""
    most, longest = room
    stops = StopTokens.empty(2 * len(rows), most, longest, device)
    stops.bits.fill_(-1)
    slots = torch.arange(2 * len(rows) - 1, 0, -2, dtype=dtype)
    for slot, (sequences, _) in zip(slots.tolist(), rows, strict=True):
        stops.assign(slot, sequences)
    others = stops.bits[::2].clone()
    histories: list[list[int]] = [[] for _ in rows]
    over = [False] * len(rows)
    for column in zip(*(tokens for _, tokens in rows), strict=True):
        for history, token in zip(histories, column, strict=True):
            history += [token] if token >= 0 else []
        answer = path(stops, slots, torch.tensor(column, dtype=dtype))
        assert answer.sequence.dtype == answer.held.dtype == torch.int32
        sequence, held = stopped(histories, [sequences for sequences, _ in rows])
        for row, token in enumerate(column):
            expected = (int(sequence[row]), int(held[row]))
            if token >= 0 and not over[row]:
                assert (int(answer.sequence[row]), int(answer.held[row])) == expected, (rows[row], histories[row])
                over[row] = expected[0] >= 0
            elif token < 0:
                assert answer.sequence[row] == -1
    assert torch.equal(stops.bits[::2], others), "slots of others are left alone"


@given(rows=ROWS, wide=st.booleans())
@example(rows=TIES, wide=False)
@example(rows=OVERLAPS, wide=True)
@settings(deadline=None)
def test_every_token_on_the_cpu(rows: list[Row], wide: bool) -> None:
    follow(advance, "cpu", rows, (11, 40) if wide else (4, 4), torch.int64)


@given(rows=ROWS)
@example(rows=TIES)
@example(rows=OVERLAPS)
@settings(deadline=None, max_examples=100 if DEVICE == "cuda" else 10)
def test_every_token_in_the_kernel(rows: list[Row]) -> None:
    follow(by_kernel, DEVICE, rows, (4, 4), torch.int64)


@PATHS
@pytest.mark.parametrize("length", [32, 65])
def test_sequences_longer_than_a_word(path: Advance, device: str, length: int) -> None:
    tokens = list(range(100, 100 + length))
    stops = StopTokens.empty(1, 2, length, device)
    stops.assign(0, [[*tokens[:-1], 5], tokens])
    slot = torch.tensor([0], dtype=torch.int32)
    coming = torch.tensor([5, *tokens[:-1], *tokens], dtype=torch.int32)
    answers = [path(stops, slot, token) for token in coming.view(-1, 1)]
    held = [int(answer.held[0]) for answer in answers]
    assert held == [*range(length), *range(1, length + 1)]
    assert [int(answer.sequence[0]) for answer in answers] == [-1] * (2 * length - 1) + [1]


@PATHS
def test_the_largest_token_and_many_sequences(path: Advance, device: str) -> None:
    stops = StopTokens.empty(2, 20, 3, device)
    stops.assign(1, [[index, 2**31 - 1] for index in range(20)])
    slots = torch.tensor([1, 0])
    assert path(stops, slots, torch.tensor([19, 19])).held.tolist() == [1, 0]
    answer = path(stops, slots, torch.tensor([2**31 - 1, 2**31 - 1]))
    assert (answer.sequence.tolist(), answer.held.tolist()) == ([19, -1], [2, 0])


@PATHS
def test_an_empty_batch(path: Advance, device: str) -> None:
    none = torch.empty(0, dtype=torch.int64)
    answer = path(StopTokens.empty(1, 1, 1, device), none, none)
    assert answer.sequence.shape == answer.held.shape == (0,)


def test_a_slot_forgets_its_last_request() -> None:
    stops = StopTokens.empty(1, 1, 2)
    slot = torch.tensor([0])
    stops.assign(0, [[1, 2]])
    assert advance(stops, slot, torch.tensor([1])).held.item() == 1
    stops.assign(0, [[1, 2]])
    assert advance(stops, slot, torch.tensor([2])).sequence.item() == -1
    stops.assign(0, [])
    assert advance(stops, slot, torch.tensor([1])).held.item() == 0


@pytest.mark.parametrize(
    ("sequences", "problem"),
    [
        ([[1], [2], [3]], "at most 2"),
        ([[]], "0 tokens"),
        ([[1] * 33], "33 tokens"),
        ([[1, -1]], "outside"),
        ([[2**31]], "outside"),
    ],
)
def test_what_does_not_fit_is_refused(sequences: list[list[int]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        StopTokens.empty(1, 2, 32).assign(0, sequences)


def test_slots_and_tokens_go_together() -> None:
    with pytest.raises(ValueError, match=r"must both be \[B\]"):
        advance(StopTokens.empty(2, 1, 1), torch.tensor([0, 1]), torch.tensor([1]))

"""Tokens a request has seen: counted step by step as if counted anew each time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.sampling import Seen, SparseSeen
from server.replicas.vllm_sampler_seen import PLACEHOLDER, SeenTokens, dense_seen, sparse_seen

VOCABULARY = 40
TOKENS = st.integers(-1, VOCABULARY + 3).filter(lambda token: token != PLACEHOLDER)
LISTS = st.lists(TOKENS, max_size=90)


def same(left: SparseSeen, right: SparseSeen) -> bool:
    return all(torch.equal(getattr(left, name), getattr(right, name)) for name in vars(right))


@given(prompt=LISTS, outputs=LISTS, cuts=st.lists(st.integers(0, 90), max_size=4))
def test_counting_step_by_step_equals_counting_at_once(prompt: list[int], outputs: list[int], cuts: list[int]) -> None:
    grown: list[int] = []
    tokens = SeenTokens(prompt, grown, VOCABULARY)
    for cut in [*sorted(cuts), len(outputs)]:
        grown.extend(outputs[len(grown) : cut])
        counted = sparse_seen([None, tokens, None])
        assert same(counted, SparseSeen.build([[], prompt, []], [[], grown, []], vocabulary=VOCABULARY))


def test_a_placeholder_is_counted_when_its_token_is_known() -> None:
    outputs = [3, 4, PLACEHOLDER, PLACEHOLDER]
    tokens = SeenTokens([], outputs, VOCABULARY)
    assert sparse_seen([tokens]).tokens.tolist() == [3, 4]
    outputs[2:] = [5, 3]
    seen = sparse_seen([tokens])
    assert (seen.tokens.tolist(), seen.counts.tolist()) == ([3, 4, 5], [2, 1, 1])


def test_tokens_that_vllm_takes_back_are_forgotten() -> None:
    outputs = [3, 4, 5]
    tokens = SeenTokens([1], outputs, VOCABULARY)
    sparse_seen([tokens])
    del outputs[1:]
    assert sparse_seen([tokens]).counts.tolist() == [0, 1]
    sparse_seen([tokens])
    outputs[:] = [6, 6, 6]
    seen = sparse_seen([tokens])
    assert (seen.tokens.tolist(), seen.counts.tolist(), seen.in_prompt.tolist()) == ([1, 6], [0, 3], [True, False])


def test_a_request_without_known_prompt_has_seen_its_own_tokens_only() -> None:
    assert sparse_seen([SeenTokens(None, [2], VOCABULARY)]).in_prompt.tolist() == [False]


@given(st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=4))
def test_the_dense_form_is_the_bitmap_and_counts_of_the_kernels(rows: list[tuple[list[int], list[int]]]) -> None:
    prompts, outputs = [list(p) for p, _ in rows], [list(o) for _, o in rows]
    sparse = SparseSeen.build(prompts, outputs, vocabulary=VOCABULARY)
    dense = dense_seen(sparse, VOCABULARY, torch.device("cpu"))
    expected = Seen.build(prompts, outputs, vocabulary=VOCABULARY)
    assert torch.equal(dense.counts, expected.counts)
    assert np.array_equal(dense.prompt.numpy(), expected.prompt.numpy())
    assert torch.equal(dense.slot, expected.slot)

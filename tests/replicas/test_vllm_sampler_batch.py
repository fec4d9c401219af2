"""The adapter of vLLM's older runner: what vLLM's own batch hands it, against vLLM's own sampler and the reference."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from kernels.sampling import Rows, Sampled, Seen, SparseSeen
from kernels.sampling.reference import sample_reference
from server.replicas.vllm_sampler_requests import signed64
from server.replicas.vllm_sampler_warm import PARAMETERS
from tests.fixtures.vllm_batch import Batch, BatchSampler, Sampler

VOCABULARY = 1003
DTYPES = [torch.bfloat16, torch.float32]


def logits_of(rows: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, VOCABULARY, generator=generator) * 3).to(dtype)


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    """vLLM compiles its count of ranks, which takes longer than all tests here."""
    with torch.compiler.set_stance("force_eager"):
        yield


def ours() -> Any:
    return BatchSampler()


def theirs(**options: Any) -> Any:
    return Sampler(**options)


def tokens_of(sampler: Any, logits: torch.Tensor, batch: Batch) -> list[int]:
    drawn: list[int] = sampler(logits.clone(), batch.metadata()).sampled_token_ids[:, 0].tolist()
    return drawn


def mixed() -> Batch:
    batch = Batch(VOCABULARY)
    batch.add("greedy", [1, 2], temperature=0.0)
    batch.add("seeded", [3], [5, 5, 6], temperature=0.8, seed=7, top_p=0.9)
    batch.add("k", [4, 4], [9], seed=-5, top_k=5)
    batch.add("min-p", [1], seed=11, min_p=0.2, temperature=1.5)
    batch.add("penalised", [8, 9, 8], [5, 5, 6], seed=2**62, repetition_penalty=1.3, frequency_penalty=0.5)
    batch.add("greedy too", [8, 9], [7, 7], temperature=0.0, presence_penalty=1.5, repetition_penalty=1.7)
    return batch


@pytest.mark.parametrize("dtype", DTYPES)
def test_tokens_are_the_reference_s_for_the_request_s_parameters_seed_and_position(dtype: torch.dtype) -> None:
    batch, logits = mixed(), logits_of(6, dtype=dtype)
    rows = Rows.build(
        temperature=[0, 0.8, 1, 1.5, 1, 0], top_k=[0, 0, 5, 0, 0, 0], top_p=[1, 0.9, 1, 1, 1, 1],
        min_p=[0, 0, 0, 0.2, 0, 0], seed=[0, 7, -5, 11, 2**62, 0], position=[0, 3, 1, 0, 3, 2],
        repetition=[1, 1, 1, 1, 1.3, 1.7], frequency=[0, 0, 0, 0, 0.5, 0], presence=[0, 0, 0, 0, 0, 1.5],
    )  # fmt: skip
    prompts = [state.prompt_token_ids for state in batch.states.values()]
    outputs = [state.output_token_ids for state in batch.states.values()]
    seen = Seen.build(prompts, outputs, vocabulary=VOCABULARY)
    assert tokens_of(ours(), logits, batch) == sample_reference(logits, rows, seen).tokens.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_greedy_rows_get_vllm_s_tokens_beside_random_ones(dtype: torch.dtype) -> None:
    batch = mixed()
    for step in range(8):
        logits = logits_of(6, step, dtype)
        mine, vllms = tokens_of(ours(), logits, batch), tokens_of(theirs(), logits, batch)
        assert [mine[0], mine[5]] == [vllms[0], vllms[5]]
        for name, token in zip(batch.states, mine, strict=True):
            batch.states[name].output_token_ids.append(token)


@pytest.mark.parametrize(
    "params",
    [{"top_k": 4}, {"top_p": 0.6}, {"min_p": 0.3}, {"top_k": 9, "top_p": 0.8}, {"top_k": 6, "min_p": 0.1}],
    ids=str,
)
def test_what_can_be_drawn_is_what_vllm_leaves(params: dict[str, Any]) -> None:
    batch, logits = Batch(VOCABULARY), logits_of(1)
    outputs = batch.add("one", [1], temperature=0.9, seed=3, frequency_penalty=0.7, **params)
    sampler, drawn = ours(), set()
    outputs.append(2)
    for _ in range(400):
        drawn.add(tokens_of(sampler, logits, batch)[0])
        outputs.append(PAD)
    del outputs[1:]
    left = theirs(logprobs_mode="processed_logits")
    metadata = batch.metadata()
    metadata.max_num_logprobs = -1
    support = left(logits.clone(), metadata).logprobs_tensors.logprobs[0].isfinite().nonzero()[:, 0]
    assert drawn == set(support.tolist())


PAD = VOCABULARY + 1
"""An output token that no penalty counts."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 5])
def test_logprobs_and_ranks_are_vllm_s(dtype: torch.dtype, count: int) -> None:
    batch, logits = mixed(), logits_of(7, dtype=dtype)
    batch.add("asks", [1], temperature=0.7, seed=1, logprobs=count)
    result = ours()(logits.clone(), batch.metadata())
    own = theirs()
    tokens = result.sampled_token_ids[:, 0].long()
    expected = own.gather_logprobs(own.compute_logprobs(logits), count, token_ids=tokens)
    found = result.logprobs_tensors
    assert (found.logprob_token_ids.dtype, found.logprob_token_ids.shape) == (torch.int32, (7, count + 1))
    torch.testing.assert_close(found.logprobs, expected.logprobs, atol=1e-5, rtol=0)
    assert found.selected_token_ranks.tolist() == expected.selected_token_ranks.tolist()
    assert found.logprob_token_ids[:, 0].tolist() == tokens.tolist()


EDITS: list[dict[str, Any]] = [
    {"allowed_token_ids": [3, 500, 1002]},
    {"logit_bias": {77: 50.0, 12: -100.0}},
    {"bad_words_token_ids": [[2, 5], [2, 6], [9]]},
    {"min_tokens": 4, "stop_token_ids": [41]},
    {"min_tokens": 4, "stop_token_ids": [41], "logit_bias": {41: 60.0, 42: 40.0}, "presence_penalty": 2.0},
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("params", EDITS, ids=str)
def test_masks_and_biases_hold_and_logprobs_stay_those_of_the_raw_logits(
    params: dict[str, Any], dtype: torch.dtype
) -> None:
    batch, logits = Batch(VOCABULARY), logits_of(2, dtype=dtype)
    logits[:, [9, 5, 6, 41]] = 30
    batch.add("edited", [1], [2], temperature=0.0, logprobs=3, **params)
    batch.add("plain", [1], temperature=0.0)
    mine = ours()(logits.clone(), batch.metadata())
    vllms = theirs()(logits.clone(), batch.metadata())
    assert torch.equal(mine.sampled_token_ids, vllms.sampled_token_ids)
    assert mine.sampled_token_ids[1, 0] == 5
    torch.testing.assert_close(mine.logprobs_tensors.logprobs, vllms.logprobs_tensors.logprobs, atol=1e-5, rtol=0)
    assert torch.equal(mine.logprobs_tensors.selected_token_ranks, vllms.logprobs_tensors.selected_token_ranks)


def test_logits_are_neither_copied_nor_written_when_nothing_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []

    def sample(logits: torch.Tensor, rows: Rows, seen: Seen | SparseSeen | None, logprobs: int | None) -> Sampled:
        given.append(logits)
        return sample_reference(logits, rows, seen, logprobs)

    monkeypatch.setattr("server.replicas.vllm_sampler_batch.sample", sample)
    batch, logits = mixed(), logits_of(6, dtype=torch.bfloat16)
    before = logits.clone()
    ours()(logits, batch.metadata())
    assert given[0] is logits
    assert torch.equal(logits, before)


def test_a_seeded_request_draws_the_same_alone_and_beside_others_and_after_preemption() -> None:
    alone, crowd = Batch(VOCABULARY), Batch(VOCABULARY, engine_seed=9)
    crowd.add("first", [1], temperature=1.3)
    sampler, beside = ours(), ours()
    params: dict[str, Any] = {"temperature": 1.2, "seed": 77, "top_p": 0.95, "presence_penalty": 1.0}
    outputs, others = alone.add("one", [4, 5], **params), crowd.add("one", [4, 5], **params)
    crowd.add("last", [2], temperature=0.0, logprobs=2)
    for step in range(12):
        if step == 4:  # the row moves
            crowd.preempt("first")
        if step == 8:
            crowd.preempt("one")
            tokens_of(beside, logits_of(1, 99), crowd)
            crowd.resume("one")
        logits = logits_of(1, step)
        wide = logits_of(crowd.batch.num_reqs, 1000 + step)
        wide[crowd.row("one")] = logits[0]
        outputs.append(tokens_of(sampler, logits, alone)[0])
        others.append(tokens_of(beside, wide, crowd)[crowd.row("one")])
    assert outputs == others
    assert len(set(outputs)) > 3


def test_requests_without_a_seed_draw_differently_but_the_same_in_every_rank_of_an_engine() -> None:
    def tokens(engine_seed: int) -> list[int]:
        batch = Batch(VOCABULARY, engine_seed)
        for name in "abcdefgh":
            batch.add(name, [1])
        return tokens_of(ours(), logits_of(1).expand(8, -1), batch)

    assert len(set(tokens(0))) > 4
    assert tokens(0) == tokens(0)
    assert tokens(0) != tokens(1)


def test_a_position_is_never_drawn_at_twice_with_one_seed() -> None:
    batch = Batch(VOCABULARY)
    outputs = batch.add("one", [1], seed=5)
    sampler = ours()
    drawn = []
    for _ in range(20):
        drawn.append(tokens_of(sampler, torch.zeros(1, VOCABULARY), batch)[0])
        outputs.append(-1)  # async scheduling: the token is not known on the host yet
    assert len(set(drawn)) > 17


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logprob_token_ids": {0: [3]}, "max_num_logprobs": 0}, "logprob_token_ids"),
        ({"max_num_logprobs": -1}, "whole vocabulary"),
        ({"max_num_logprobs": VOCABULARY}, "whole vocabulary"),
    ],
    ids=str,
)
def test_what_is_not_covered_goes_to_vllm_and_is_said_once(
    change: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch, logits, sampler = Batch(VOCABULARY), logits_of(1), ours()
    batch.add("one", [1], temperature=0.0)
    metadata = batch.metadata()
    for name, value in change.items():
        setattr(metadata, name, value)
    with caplog.at_level(logging.WARNING, "vllm.hearth"):
        results = [sampler(logits.clone(), metadata) for _ in range(2)]
    expected = theirs()(logits.clone(), metadata)
    torch.testing.assert_close(results[1].logprobs_tensors.logprobs, expected.logprobs_tensors.logprobs)
    assert [words in record.getMessage() for record in caplog.records] == [True]


def test_speculative_decoding_s_bonus_tokens_and_odd_parameters_go_to_vllm(caplog: pytest.LogCaptureFixture) -> None:
    batch, sampler = Batch(VOCABULARY), ours()
    batch.add("one", [1], temperature=0.0, repetition_penalty=1e30)
    with caplog.at_level(logging.WARNING, "vllm.hearth"):
        sampler(logits_of(1), batch.metadata())
        sampler(logits_of(1), batch.metadata(), predict_bonus_token=True)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "out of the kernels' range" in said
    assert "speculative decoding" in said


def test_vllm_s_warm_up_has_no_requests_and_compiles_both_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[tuple[bool, bool, bool, bool, int | None]] = []

    def sample(logits: torch.Tensor, rows: Rows, seen: Seen | SparseSeen | None, logprobs: int | None) -> None:
        assert len(rows) == len(logits) <= 8
        assert (seen is not None) == rows.any_penalty
        kinds.append((rows.any_greedy, rows.any_top_k, rows.any_top_p, rows.any_penalty, logprobs))

    monkeypatch.setattr("server.replicas.vllm_sampler_warm.sample", sample)
    batch = mixed()
    metadata = batch.metadata()
    metadata.logitsprocs = type(metadata.logitsprocs)()
    drawn = ours()(logits_of(6), metadata).sampled_token_ids[:, 0].tolist()
    assert drawn[0] == tokens_of(theirs(), logits_of(6), batch)[0]
    assert len(kinds) == len(PARAMETERS) * 3
    assert {kind[:4] for kind in kinds} >= {(True, False, False, False), (False, True, True, False)}


def test_vllm_may_take_back_the_draw_of_a_seeded_request() -> None:
    """As it does while it reads a long prompt in steps; a plain CPU generator would end the engine."""
    batch = Batch(VOCABULARY)
    batch.add("one", [1], seed=5)
    metadata = batch.metadata()
    ours()(logits_of(1), metadata)
    generator = metadata.generators[0]
    generator.set_offset(generator.get_offset() - 4)
    fresh = torch.Generator().manual_seed(5)
    assert torch.randint(0, 1 << 30, (4,), generator=generator).tolist() == torch.randint(
        0, 1 << 30, (4,), generator=fresh
    ).tolist()


def test_a_draw_by_vllm_itself_can_be_taken_back_too() -> None:
    batch, sampler = Batch(VOCABULARY), ours()
    batch.add("one", [1], seed=5)
    metadata = batch.metadata()
    metadata.logprob_token_ids = {0: [3]}
    metadata.max_num_logprobs = 0
    first = sampler(logits_of(1), metadata).sampled_token_ids.item()
    generator = metadata.generators[0]
    generator.set_offset(generator.get_offset() - 4)
    assert sampler(logits_of(1), metadata).sampled_token_ids.item() == first


@pytest.mark.parametrize(("number", "signed"), [(5, 5), (-5, -5), (2**63, -(2**63)), (2**64 - 1, -1)])
def test_seeds_are_the_64_bits_of_any_number(number: int, signed: int) -> None:
    assert signed64(number) == signed

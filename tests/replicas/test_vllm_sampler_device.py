"""The adapter of vLLM's newer GPU runner, on CPU tensors: its own state objects, none of its Triton kernels."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from kernels.sampling import Rows, Seen
from kernels.sampling.reference import sample_reference
from tests.fixtures.vllm_device import Device, DeviceSampler

VOCABULARY = 301
PARAMS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.8, "seed": 7, "top_p": 0.9},
    {"seed": -5, "top_k": 5},
    {"seed": 11, "min_p": 0.2, "temperature": 1.5},
    {"seed": 2**62, "repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": -0.25},
]
PROMPTS = [[1, 2], [3], [4, 4], [1], [8, 9, 8]]
OUTPUTS = [[], [5, 5, 6], [9], [], [5, 5, 6]]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(VOCABULARY, monkeypatch)


def logits_of(rows: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3).to(dtype)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [4], [0]], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rows_follow_their_slots(device: Device, order: list[int], dtype: torch.dtype) -> None:
    slots = [
        device.add(prompt, outputs, **params) for prompt, outputs, params in zip(PROMPTS, OUTPUTS, PARAMS, strict=True)
    ]
    logits = logits_of(len(order), dtype=dtype)
    before = logits.clone()
    tokens, edited = device.sample(logits, [slots[row] for row in order])
    rows = Rows.build(
        temperature=[PARAMS[row].get("temperature", 1.0) for row in order],
        top_k=[PARAMS[row].get("top_k", 0) for row in order],
        top_p=[PARAMS[row].get("top_p", 1.0) for row in order],
        min_p=[PARAMS[row].get("min_p", 0.0) for row in order],
        seed=[PARAMS[row].get("seed", 0) for row in order],
        position=[len(OUTPUTS[row]) for row in order],
        repetition=[PARAMS[row].get("repetition_penalty", 1.0) for row in order],
        frequency=[PARAMS[row].get("frequency_penalty", 0.0) for row in order],
        presence=[PARAMS[row].get("presence_penalty", 0.0) for row in order],
    )
    seen = Seen.build([PROMPTS[row] for row in order], [OUTPUTS[row] for row in order], vocabulary=VOCABULARY)
    assert tokens.tolist() == sample_reference(logits, rows, seen).tokens.tolist()
    assert edited is logits
    assert torch.equal(logits, before)


def test_the_rows_are_those_built_from_plain_numbers(device: Device) -> None:
    slots = [device.add(prompt, [], **params) for prompt, params in zip(PROMPTS, PARAMS, strict=True)]
    host = np.array(slots)
    index, zeros = torch.tensor(slots), torch.zeros(len(slots), dtype=torch.int64)
    for chosen in (slice(0, 5), slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4), slice(4, 5)):
        count = len(host[chosen])
        found = device.sampler._table.rows(index[chosen], host[chosen], zeros[chosen], zeros[chosen])
        params = PARAMS[chosen]
        expected = Rows.build(
            temperature=[p.get("temperature", 1.0) for p in params],
            top_k=[p.get("top_k", 0) for p in params],
            top_p=[p.get("top_p", 1.0) for p in params],
            min_p=[p.get("min_p", 0.0) for p in params],
            seed=[0] * count,
            repetition=[p.get("repetition_penalty", 1.0) for p in params],
            frequency=[p.get("frequency_penalty", 0.0) for p in params],
            presence=[p.get("presence_penalty", 0.0) for p in params],
            vocabulary=VOCABULARY,
        )
        for name, value in vars(expected).items():
            same = getattr(found, name)
            assert torch.equal(same, value) if isinstance(value, torch.Tensor) else same == value, name
            assert not isinstance(value, torch.Tensor) or same.is_contiguous()


def test_masks_and_biases_are_vllm_s_own_in_a_float32_copy(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = device.add([1], [], temperature=0.0, logit_bias={7: 100.0})
    bias, penalties, words = device.sampler.logits_processors

    def mask(logits: torch.Tensor, _context: Any) -> torch.Tensor:
        assert logits.dtype == torch.float32
        logits[:, 7] += 100
        return logits

    def nothing(logits: torch.Tensor, _context: Any) -> torch.Tensor:
        return logits

    monkeypatch.setattr(bias, "apply", mask)
    monkeypatch.setattr(words, "apply", nothing)
    monkeypatch.setattr(penalties, "apply", lambda *_: pytest.fail("penalties are the kernel's"))
    logits = logits_of(1, dtype=torch.bfloat16)
    before = logits.clone()
    tokens, edited = device.sample(logits, [slot])
    assert tokens.tolist() == [7]
    assert edited.dtype == torch.float32
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("options", "params", "call", "words"),
    [
        ({"speculative_config": "any"}, {}, {}, "speculative decoding"),
        ({"custom_logits_processors": ["any"]}, {}, {}, "custom logits processors"),
        ({"return_sampling_mask": True}, {}, {}, "return_sampling_mask"),
        ({"use_fp64_gumbel": True}, {}, {}, "use_fp64_gumbel"),
        ({"logprobs_mode": "processed_logits"}, {}, {"return_logprobs": True}, "processed_logits"),
        ({}, {"repetition_penalty": 1e30}, {}, "out of the kernels' range"),
    ],
    ids=str,
)
def test_what_is_not_covered_goes_to_vllm_and_is_said_once(
    options: dict[str, Any],
    params: dict[str, Any],
    call: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = torch.tensor([42])
    monkeypatch.setattr(DeviceSampler.__bases__[0], "sample", lambda self, logits, *rest: (answer, logits))
    monkeypatch.setattr(DeviceSampler, "add_request", lambda self, slot, params: self._table.put(slot, params))
    with caplog.at_level(logging.WARNING, "vllm.hearth"):
        device = Device(VOCABULARY, monkeypatch, **options)
        slot = device.add([1], [], **params)
        for _ in range(2):
            assert device.sample(logits_of(1), [slot], **call)[0] is answer
    assert [words in record.getMessage() for record in caplog.records] == [True]


def test_vllm_s_warm_up_compiles_each_kind_of_sampling(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    monkeypatch.setattr(
        "server.replicas.vllm_sampler_device.compile_for", lambda logits: shapes.append(tuple(logits.shape))
    )
    device.sample(logits_of(4), [0, 1, 2, 3])
    assert shapes == [(4, VOCABULARY)]

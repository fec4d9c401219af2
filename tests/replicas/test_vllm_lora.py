"""vLLM's LoRA operations on a CPU, corrected: a batch of requests with and without adapters."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from server.replicas import vllm_lora

ROWS = torch.tensor([0, -1, 1, -1, 0])
"""The adapter of each row; -1: none."""


@pytest.fixture(scope="module")
def operations() -> Any:
    vllm_lora.install()
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    assert all(getattr(punica_cpu, name) is getattr(lora_ops, name) for name in vllm_lora.MASKED)
    return lora_ops


def test_rows_without_an_adapter_stay_as_they_are(operations: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, before = torch.randn(5, 6, generator=generator), torch.randn(5, 8, generator=generator)
    down, up = torch.randn(2, 1, 3, 6, generator=generator), torch.randn(2, 1, 4, 3, generator=generator)
    reduced, outputs = torch.full((5, 3), torch.nan), before.clone()
    operations.bgmv_shrink(inputs, down, reduced, ROWS, 2.0)
    operations.bgmv_expand_slice(reduced, up, outputs, ROWS, 4, 4)
    for row, adapter in enumerate(ROWS.tolist()):
        expected = before[row].clone()
        if adapter >= 0:
            expected[4:] += up[adapter, 0] @ (2.0 * down[adapter, 0] @ inputs[row])
        torch.testing.assert_close(outputs[row], expected)


def test_the_same_of_a_prefill(operations: Any) -> None:
    inputs, up, outputs = torch.ones(5, 3), torch.ones(2, 1, 4, 3), torch.zeros(5, 4)
    lengths = torch.tensor([2, 3])
    operations.sgmv_expand(inputs, up, outputs, None, lengths, torch.tensor([-1, 1]), 2, 3, 5, add_inputs=True)
    assert outputs.tolist() == [[0.0] * 4] * 2 + [[3.0] * 4] * 3

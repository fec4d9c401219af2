"""Rows without an adapter stay as they are on a CPU.

In a batch of requests with and without an adapter vLLM gives the latter the index -1. Its Triton kernels skip those;
its operations in plain PyTorch index with it, which is the last adapter, so that requests for the base are answered
with an adapter's weights. Here their inputs are nothing, and so is what an adapter adds to them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import structlog

from server.replicas.vllm_sampler_hook import after_import

log = structlog.get_logger(__name__)

WRAPPER, OPERATIONS = "vllm.lora.punica_wrapper.punica_cpu", "vllm.lora.ops.torch_ops.lora_ops"
MASKED = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
"""Those that all others end in: (inputs, weights, outputs, indices, ...)."""

Operation = Callable[..., None]


def install() -> None:
    after_import(WRAPPER, _correct)


def _correct(wrapper: ModuleType) -> None:
    """Puts the corrected operations where vLLM finds them, if it still needs them."""
    operations = sys.modules.get(OPERATIONS)
    for name in MASKED:
        operation: Operation | None = getattr(operations, name, None)
        if operation is None or getattr(wrapper, name, None) is not operation:
            log.error("vLLM's LoRA operations are not where they were; mixed batches are not corrected", missing=name)
            return
    if not _mixes(operations):
        return
    for name in MASKED:
        corrected = _masked(getattr(operations, name))
        setattr(operations, name, corrected)
        setattr(wrapper, name, corrected)


def _masked(operation: Operation) -> Operation:
    def masked(inputs: Any, weights: Any, outputs: Any, indices: Any, *more: Any, **named: Any) -> None:
        operation(inputs.masked_fill((indices < 0).unsqueeze(-1), 0), weights, outputs, indices, *more, **named)

    return masked


def _mixes(operations: Any) -> bool:
    """Whether an input without an adapter is given one."""
    import torch

    output = torch.zeros(1, 1)
    operations.bgmv_shrink(torch.ones(1, 1), torch.ones(1, 1, 1), output, torch.tensor([-1]))
    return bool(output.any())

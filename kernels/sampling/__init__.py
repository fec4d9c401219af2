"""Sampling: penalties, temperature, min-p, top-k, top-p and the draw, exact; ../README.md has the meaning."""

from __future__ import annotations

import torch

from kernels.sampling.rows import Rows, Sampled, Seen, SparseSeen

__all__ = ["Rows", "Sampled", "Seen", "SparseSeen", "sample"]


def sample(
    logits: torch.Tensor, rows: Rows, seen: Seen | SparseSeen | None = None, logprobs: int | None = None
) -> Sampled:
    """One token per row of `logits` [B, V] (fp32, bf16 or fp16; last dimension contiguous; left as they are).

    `seen` is what penalties need; a GPU takes `Seen` only. With `logprobs` = n also log-probability and rank of each
    token and the n likeliest tokens, of the raw logits. Triton where the logits are on a GPU, numba on a CPU: the
    same tokens, bit for bit.

    Raises:
        ValueError: a shape, type or device does not fit.
    """
    if logits.device.type == "cpu":
        from kernels.sampling import cpu

        return cpu.sample(logits, rows, seen, logprobs)
    if isinstance(seen, SparseSeen):
        raise ValueError("seen must be of type Seen where the logits are on a GPU")
    from kernels.sampling import gpu

    return gpu.sample(logits, rows, seen, logprobs)

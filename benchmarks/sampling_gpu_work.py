"""What the GPU sampling benchmark runs: batches to sample from, and the samplers that draw from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from kernels.sampling import gpu
from kernels.sampling.reference import sample_reference
from kernels.sampling.rows import Rows, Seen

Step = Callable[[], Any]
VERIFIED_ROWS = 4


@dataclass(frozen=True)
class Work:
    """A batch. `kind` says which parameters its rows have, `shape` how its logits look."""

    kind: str  # mixed: greedy, seeded, filtered and penalised rows in turn; k+p; p; plain
    shape: str  # text: as peaked as language models are, row by row differently; noise: normal
    logits: torch.Tensor
    ready: torch.Tensor  # fp32 logits over the temperature, for samplers that begin there
    parameters: dict[str, Any]
    rows: Rows
    seen: Seen | None


KINDS = (("mixed", "text"), ("k+p", "text"), ("k+p", "noise"), ("p", "text"), ("p", "noise"), ("plain", "text"))


def work(kind: str, shape: str, batch: int, vocabulary: int, dtype: torch.dtype, device: str) -> Work:
    """A batch of that kind; the same on every call."""
    generator = torch.Generator(device=device).manual_seed(batch * vocabulary)
    logits = torch.randn(batch, vocabulary, generator=generator, device=device)
    if shape == "text":
        # A Zipf law whose exponent, from 1.2 to 3, differs from row to row, ids in no order.
        exponent = torch.linspace(1.2, 3.0, batch, device=device)[:, None]
        rank = logits.argsort(dim=-1).argsort(dim=-1).float() + 1
        logits = 12.0 - exponent * rank.log() + 0.1 * logits
    logits = logits.to(dtype)
    parameters = _parameters(kind, batch)
    rows = Rows.build(**parameters, vocabulary=vocabulary, device=device)
    ready = logits.float() * rows.inverse_temperature[:, None]
    return Work(kind, shape, logits, ready, parameters, rows, _seen(kind, batch, vocabulary, device))


def _parameters(kind: str, batch: int) -> dict[str, Any]:
    turn = np.arange(batch) % 4
    parameters: dict[str, Any] = {"temperature": np.full(batch, 0.8), "seed": np.arange(batch) + 1}
    parameters["position"] = np.arange(batch) + 100
    if kind == "mixed":
        parameters["temperature"] = np.where(turn == 0, 0.0, 0.8)
        parameters["top_k"] = np.where(turn == 2, 50, 0)
        parameters["top_p"] = np.where(turn >= 2, 0.9, 1.0)
        parameters["min_p"] = np.where(turn == 3, 0.02, 0.0)
        parameters["repetition"] = np.where(turn == 3, 1.1, 1.0)
        parameters["presence"] = np.where(turn == 3, 0.2, 0.0)
    elif kind != "plain":
        parameters["top_p"] = np.full(batch, 0.9)
        parameters["top_k"] = np.full(batch, 50 if kind == "k+p" else 0)
    return parameters


def _seen(kind: str, batch: int, vocabulary: int, device: str) -> Seen | None:
    if kind != "mixed":
        return None
    rng = np.random.default_rng(vocabulary)
    prompts, outputs = rng.integers(0, vocabulary, (batch, 500)), rng.integers(0, vocabulary, (batch, 200))
    return Seen.build(list(prompts), list(outputs), vocabulary=vocabulary, device=device)


def ours(item: Work) -> Step:
    """Everything from raw logits to tokens."""
    return lambda: gpu.sample(item.logits, item.rows, item.seen)


def verify(item: Work) -> int:
    """Compare the first rows with the reference; returns how many.

    Raises:
        RuntimeError: a token differs. No time is worth anything then.
    """
    got = gpu.sample(item.logits, item.rows, item.seen).tokens.cpu()[:VERIFIED_ROWS]
    host: dict[str, Any] = {name: np.asarray(value)[:VERIFIED_ROWS] for name, value in item.parameters.items()}
    rows = Rows.build(**host, vocabulary=item.logits.shape[1])
    seen = None
    if item.seen is not None:
        chosen = item.seen.slot[:VERIFIED_ROWS].long()
        slots = torch.arange(chosen.shape[0], dtype=torch.int32)
        seen = Seen(slots, item.seen.prompt[chosen].cpu(), item.seen.counts[chosen].cpu())
    expected = sample_reference(item.logits[:VERIFIED_ROWS].cpu(), rows, seen).tokens
    if not torch.equal(got, expected):
        raise RuntimeError(f"{item.kind} {item.shape} {list(item.logits.shape)}: {got} is not {expected}")
    return int(expected.shape[0])


def torch_sort(item: Work) -> Step:
    """Top-k and top-p by a full sort, then a multinomial draw, from ready logits."""
    k, p = item.rows.top_k, item.rows.top_p

    def step() -> torch.Tensor:
        values, ids = item.ready.sort(dim=-1, descending=True)
        probabilities = values.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        place = torch.arange(values.shape[1], device=values.device)
        kept = (before < p[:, None]) & ((place[None, :] < k[:, None]) | (k[:, None] <= 0))
        noise = torch.empty_like(probabilities).exponential_()
        best = torch.where(kept, probabilities / noise, 0.0).argmax(dim=-1, keepdim=True)
        return ids.gather(1, best)

    return step


def flashinfer(item: Work) -> Step:
    """FlashInfer as vLLM calls it, from ready logits."""
    peer = import_module("flashinfer.sampling")
    k, p = item.rows.top_k, item.rows.top_p
    if item.kind == "k+p":
        return lambda: peer.top_k_top_p_sampling_from_logits(item.ready, k, p, deterministic=True)
    return lambda: peer.top_p_sampling_from_probs(item.ready.softmax(dim=-1), p, deterministic=True)


def vllm_filter(item: Work) -> Step:
    """vLLM's Triton top-k/top-p alone: masks a copy of ready logits and draws nothing."""
    from vllm.v1.sample.ops.topk_topp_triton import apply_top_k_top_p_triton

    k = item.rows.top_k if item.kind == "k+p" else None
    buffer = torch.empty_like(item.ready)

    def step() -> torch.Tensor:
        masked: torch.Tensor = apply_top_k_top_p_triton(buffer.copy_(item.ready), k, item.rows.top_p)
        return masked

    return step


def vllm_pipeline(item: Work) -> Step:
    """The operations of vLLM's GPU sampler in its order, leaving out those that it leaves out for such a batch."""
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p
    from vllm.v1.worker.gpu.sample.gumbel import apply_temperature, gumbel_sample
    from vllm.v1.worker.gpu.sample.min_p import apply_min_p
    from vllm.v1.worker.gpu.sample.penalties import apply_penalties

    batch, vocabulary = item.logits.shape
    rows, seen, device = item.rows, item.seen, item.logits.device
    slots = torch.arange(batch, dtype=torch.int32, device=device)
    nothing = torch.zeros(batch, dtype=torch.int32, device=device)
    k = torch.where(rows.top_k > 0, rows.top_k, vocabulary) if rows.any_top_k else None
    p = rows.top_p if rows.any_top_p else None

    def step() -> torch.Tensor:
        x = torch.empty_like(item.logits, dtype=torch.float32).copy_(item.logits)
        if seen is not None:
            penalties = (rows.repetition, rows.frequency, rows.presence)
            apply_penalties(x, slots, nothing, nothing, *penalties, seen.prompt, seen.counts)
        apply_temperature(x, slots, rows.temperature)
        if rows.any_min_p:
            apply_min_p(x, slots, rows.min_p)
        x = apply_top_k_top_p(x, k, p)
        drawn: torch.Tensor = gumbel_sample(
            x, slots, rows.temperature, rows.seed, rows.position, apply_temperature=False, is_drafting=False
        )
        return drawn

    return step


SAMPLERS: dict[str, tuple[Callable[[Work], Step], tuple[str, ...]]] = {
    "hearth": (ours, ("mixed", "k+p", "p", "plain")),
    "vllm": (vllm_pipeline, ("mixed", "k+p", "p", "plain")),
    "vllm filter": (vllm_filter, ("k+p", "p")),
    "flashinfer": (flashinfer, ("k+p", "p")),
    "torch sort": (torch_sort, ("k+p", "p")),
}
DISTRIBUTIONS = {"vllm": "vllm", "vllm filter": "vllm", "flashinfer": "flashinfer-python"}


def samplers(kind: str) -> Iterator[tuple[str, Callable[[Work], Step]]]:
    """Those that can draw from that kind of batch."""
    for name, (make, kinds) in SAMPLERS.items():
        if kind in kinds:
            yield name, make


def versions() -> dict[str, str]:
    """Versions of torch, Triton and the peers, `absent` where one is not installed."""
    found = {}
    for name in ("torch", "triton", "vllm", "flashinfer-python"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found

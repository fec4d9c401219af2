"""`sample` on a GPU: checks, the workspace and the two launches. Nothing here waits for the device."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton

from kernels.sampling.arithmetic import TILE
from kernels.sampling.device import GROUP
from kernels.sampling.gpu_kernel import finish_kernel, scan_kernel
from kernels.sampling.gpu_scan import workspace_words
from kernels.sampling.gpu_search import MANY
from kernels.sampling.gpu_values import NO_PENALTY, PENALTY_BITMAP, PENALTY_COUNTS
from kernels.sampling.rows import VOCABULARY_LIMIT, Rows, Sampled, Seen

BLOCK = 1024  # tokens a finishing program reads at a time, half as many beyond MANY groups
SCAN_WARPS, FINISH_WARPS = 8, 16
PROGRAMS_PER_PROCESSOR = 8  # aimed at, so that the last wave of programs is a small part of the whole
MOST_TILES_PER_PROGRAM = 8
TOURNAMENT_LIMIT = 64  # top logprobs beyond this many are sorted instead
FLOATS = (torch.float32, torch.bfloat16, torch.float16)

# What every launch must be compiled with: a contracted multiply-add would change the result.
SCAN_OPTIONS: dict[str, Any] = {"num_warps": SCAN_WARPS, "enable_fp_fusion": False}
FINISH_OPTIONS: dict[str, Any] = {"num_warps": FINISH_WARPS, "enable_fp_fusion": False}


@lru_cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors of the device; 1 for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def tiles_per_program(rows: int, tiles: int, device: torch.device) -> int:
    """How many tiles one program streams."""
    share = -(-rows * tiles // (processors(device) * PROGRAMS_PER_PROCESSOR))
    return max(1, min(share, MOST_TILES_PER_PROGRAM, tiles))


def sample(
    logits: torch.Tensor,
    rows: Rows,
    seen: Seen | None = None,
    logprobs: int | None = None,
    *,
    tiles_each: int | None = None,
) -> Sampled:
    """One token per row of `logits` [B, V] (fp32, bf16 or fp16; last dimension contiguous; left as they are).

    With `logprobs` = n also log-probability and rank of each token and the n likeliest tokens. `tiles_each` sets how
    many tiles a program streams; the result is the same for any.

    Raises:
        ValueError: a shape or type does not fit.
    """
    check(logits, rows, seen, logprobs)
    count, vocabulary = logits.shape
    device = logits.device
    sampled = _outputs(count, logprobs, device)
    if count == 0:
        return sampled
    tiles = -(-vocabulary // TILE)
    each = tiles_each or tiles_per_program(count, tiles, device)
    # From torch's allocator anew each time: that is what makes streams and CUDA graphs safe. Nothing needs a value.
    workspace = torch.empty(count * workspace_words(tiles), dtype=torch.int64, device=device)
    source = (logits, logits.stride(0), vocabulary, rows.inverse_temperature)
    penalties = (rows.repetition, rows.frequency, rows.presence)
    state = _seen_arguments(seen, sampled.tokens)
    scan, finish = specialisations(rows, seen, logprobs, tiles)
    scan_kernel[(count * -(-tiles // each),)](
        source,
        tiles,
        each,
        (rows.temperature, rows.top_k, rows.min_p),
        penalties,
        state,
        workspace,
        **scan,
    )
    finish_kernel[(count,)](
        source,
        tiles,
        (rows.temperature, rows.top_k, rows.top_p, rows.min_p, rows.log_min_p, rows.seed, rows.position),
        penalties,
        state,
        workspace,
        _out_arguments(sampled),
        logprobs if logprobs is not None and logprobs <= TOURNAMENT_LIMIT else 0,
        **finish,
    )
    if logprobs is not None and logprobs > TOURNAMENT_LIMIT:
        _fill_top(sampled, logits, logprobs)
    return sampled


def specialisations(
    rows: Rows, seen: Seen | None, logprobs: int | None, tiles: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compile-time arguments and options of scan and finish: what no row needs is not compiled in."""
    penalty = NO_PENALTY
    if seen is not None and rows.any_penalty:
        penalty = PENALTY_COUNTS if seen.generated is None else PENALTY_BITMAP
    both = {
        "penalty": penalty.value,
        "weighted": rows.any_random and rows.any_whole,
        "reporting": logprobs is not None,
    }
    groups = triton.next_power_of_2(tiles * (TILE // GROUP.value))
    finish = {
        "filtered": rows.any_random and (rows.any_top_k or rows.any_top_p or rows.any_min_p),
        "group_room": groups,
        "tile_room": triton.next_power_of_2(tiles),
        "block": BLOCK if groups <= MANY.value else BLOCK // 2,
    }
    return both | SCAN_OPTIONS, both | finish | FINISH_OPTIONS


def check(logits: torch.Tensor, rows: Rows, seen: Seen | None, logprobs: int | None) -> None:
    """Raise ValueError where arguments do not fit each other."""
    if logits.ndim != 2 or logits.dtype not in FLOATS or logits.stride(1) != 1:
        raise ValueError("logits must be [B, V] of fp32, bf16 or fp16 with a contiguous last dimension")
    count, vocabulary = logits.shape
    if not 0 < vocabulary <= VOCABULARY_LIMIT:
        raise ValueError(f"the vocabulary must have 1 to {VOCABULARY_LIMIT} tokens, not {vocabulary}")
    if len(rows) != count or rows.temperature.device != logits.device:
        raise ValueError(f"rows must be {count} on {logits.device}, not {len(rows)} on {rows.temperature.device}")
    if rows.vocabulary not in (None, vocabulary):
        raise ValueError(f"rows were built for a vocabulary of {rows.vocabulary}, logits have {vocabulary}")
    if seen is not None and (seen.counts.shape[1] < vocabulary or seen.slot.shape[0] != count):
        raise ValueError(f"seen must have {count} slots and counts of at least {vocabulary} tokens")
    if logprobs is not None and not 0 <= logprobs <= vocabulary:
        raise ValueError(f"logprobs must be from 0 to the vocabulary's {vocabulary}, not {logprobs}")


def _outputs(count: int, logprobs: int | None, device: torch.device) -> Sampled:
    tokens = torch.empty(count, dtype=torch.int64, device=device)
    if logprobs is None:
        return Sampled(tokens)
    return Sampled(
        tokens,
        torch.empty(count, dtype=torch.float32, device=device),
        torch.empty(count, dtype=torch.int32, device=device),
        torch.empty((count, logprobs), dtype=torch.int32, device=device),
        torch.empty((count, logprobs), dtype=torch.float32, device=device),
    )


def _seen_arguments(seen: Seen | None, unused: torch.Tensor) -> tuple[torch.Tensor | int, ...]:
    if seen is None:
        return (unused, unused, unused, unused, 0, 0)
    generated = seen.generated if seen.generated is not None else unused
    return (seen.slot, seen.prompt, seen.counts, generated, seen.prompt.stride(0), seen.counts.stride(0))


def _out_arguments(sampled: Sampled) -> tuple[torch.Tensor, ...]:
    given = (sampled.logprob, sampled.rank, sampled.top_tokens, sampled.top_logprobs)
    return (sampled.tokens, *(sampled.tokens if tensor is None else tensor for tensor in given))


def _fill_top(sampled: Sampled, logits: torch.Tensor, count: int) -> None:
    """Top tokens by a stable sort: for lists so long that finding them one by one would take longer."""
    x = torch.nan_to_num(logits.float(), nan=-torch.inf, posinf=torch.finfo(torch.float32).max, neginf=-torch.inf)
    values, ids = torch.sort(x, dim=-1, descending=True, stable=True)
    if sampled.top_tokens is not None and sampled.top_logprobs is not None:
        sampled.top_tokens.copy_(ids[:, :count])
        logprobs = values[:, :count] - torch.logsumexp(x, dim=-1, keepdim=True)
        sampled.top_logprobs.copy_(torch.nan_to_num(logprobs, nan=-torch.inf, neginf=-torch.inf))

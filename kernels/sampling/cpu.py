"""Sampling on the CPU: the same tokens as `reference.sample_reference`, from one read of the logits.

numba by measurement: torch has no operation that reads a row once (its argmax of one bf16 row of 151936 takes 660 us,
its logsumexp 215 us; here maxima of all groups take 6 us and the whole row with its weights 170 us, on one core), and a
C++ extension would need a compiler at set-up for the same vector code. vLLM already depends on numba.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from operator import attrgetter

import numpy as np
import torch

from kernels.sampling import cpu_team
from kernels.sampling.cpu_frame import BF16, COUNT, FP16, FP32, MAXIMA, TEMPERATURE, counts, scratch_layout
from kernels.sampling.rows import Rows, Sampled, Seen, SparseSeen

ELEMENTS = {torch.bfloat16: BF16, torch.float16: FP16, torch.float32: FP32}
SMALL = 60_000  # logits' worth of work below which a second thread costs more than it saves
CHEAP = 20  # times less work for a logit where no row needs the weight of every token

_Words = ctypes.c_int64 * COUNT
_parameters = attrgetter(
    *"temperature inverse_temperature top_k top_p min_p log_min_p seed position repetition frequency presence".split()
)


def sample(
    logits: torch.Tensor, rows: Rows, seen: Seen | SparseSeen | None = None, logprobs: int | None = None
) -> Sampled:
    """One token per row of `logits` [B, V] (fp32, bf16 or fp16, last dimension contiguous), which are not written.

    With `logprobs` = n also the token's log-probability and rank and the top n, of the raw logits. `seen` is what
    penalties need. Threads: torch's.

    Raises:
        ValueError: a type, shape, device or stride other than these.
    """
    _check(logits, rows, logprobs)
    batch, vocabulary = logits.shape
    tokens = torch.empty(batch, dtype=torch.int64)
    reported = () if logprobs is None else _reported(batch, logprobs)
    if batch == 0:
        return Sampled(tokens, *reported)
    entries = _entries(rows, seen, batch, vocabulary)
    control = (ctypes.c_int64 * (2 + batch))()
    threads = _threads(batch * vocabulary, rows, logprobs is not None)
    call = (logits.data_ptr(), logits.stride(0), batch, vocabulary, logprobs or 0, logprobs is not None)
    frame, left, scratch = _workspace.lend(batch, vocabulary, threads)
    pointers = [tensor.data_ptr() for tensor in (*_parameters(rows), *entries, tokens, *reported)]
    pointers += [0] * (MAXIMA - TEMPERATURE - len(pointers))
    words = _Words(*call, ELEMENTS[logits.dtype], *frame, ctypes.addressof(control), *pointers, *left, *scratch)
    cpu_team.run(ctypes.addressof(words), threads)
    return Sampled(tokens, *reported)


def warm() -> None:
    """Compile, or load from the cache, what the first call would."""
    cpu_team.entry()


class _Workspace(threading.local):
    """What a call writes on its way, kept per calling thread: fresh memory would cost a page fault every 4 KiB."""

    def __init__(self) -> None:
        self.blocks: dict[int, torch.Tensor] = {}
        self._known: dict[tuple[int, int, int], tuple[list[int], list[int], list[int]]] = {}

    def lend(self, batch: int, vocabulary: int, threads: int) -> tuple[list[int], list[int], list[int]]:
        """A call's words TILES .. SCRATCH_BYTES, MAXIMA .. RAW_SUMS and OWN .. MASSES, for large enough blocks."""
        known = self._known.get((batch, vocabulary, threads))
        if known is None:
            known = self._laid_out(batch, vocabulary, threads)
            self._known[batch, vocabulary, threads] = known
        return known

    def _laid_out(self, batch: int, vocabulary: int, threads: int) -> tuple[list[int], list[int], list[int]]:
        groups, blocks, tiles = counts(vocabulary)
        offsets, size = scratch_layout(vocabulary)
        maxima, sums = 4 * batch * groups, 8 * batch * tiles
        left = [self._block(at, need) for at, need in enumerate((maxima, maxima, sums, sums, sums, sums))]
        return [tiles, groups, blocks, self._block(-1, threads * size), size], left, offsets

    def _block(self, name: int, size: int) -> int:
        block = self.blocks.get(name)
        if block is None or block.shape[0] < size:
            block = self.blocks[name] = torch.empty(size, dtype=torch.uint8)
            self._known.clear()
        return block.data_ptr()


_workspace = _Workspace()


def _check(logits: torch.Tensor, rows: Rows, logprobs: int | None) -> None:
    if logits.dtype not in ELEMENTS:
        raise ValueError(f"logits must be fp32, bf16 or fp16, not {logits.dtype}")
    if logits.device.type != "cpu" or logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits must be [B, V] on the CPU, not {list(logits.shape)} on {logits.device}")
    if logits.shape[1] > 1 and logits.stride(1) != 1:
        raise ValueError(f"the last dimension of the logits must be contiguous, not of stride {logits.stride(1)}")
    if len(rows) != logits.shape[0]:
        raise ValueError(f"{logits.shape[0]} rows of logits but parameters of {len(rows)}")
    if not all(tensor.is_contiguous() for tensor in _parameters(rows)):
        raise ValueError("parameters of rows must be contiguous")
    if logprobs is not None and not 0 <= logprobs <= logits.shape[1]:
        raise ValueError(f"logprobs must be from 0 to {logits.shape[1]}, not {logprobs}")


def _threads(logits: int, rows: Rows, reports: bool) -> int:
    work = logits if rows.any_whole or rows.any_penalty or reports else logits // CHEAP
    return cpu_team.team_size() if work > SMALL else 1


def _reported(batch: int, n: int) -> tuple[torch.Tensor, ...]:
    chosen, rank = torch.empty(batch, dtype=torch.float32), torch.empty(batch, dtype=torch.int32)
    return chosen, rank, torch.empty(batch, n, dtype=torch.int32), torch.empty(batch, n, dtype=torch.float32)


def _entries(
    rows: Rows, seen: Seen | SparseSeen | None, batch: int, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(offsets, tokens ascending in each row, counts, in_prompt) of what a row has seen; nothing without penalties."""
    if seen is None or not rows.any_penalty:
        return _nothing_seen(batch)
    if isinstance(seen, SparseSeen):
        if seen.offsets.shape[0] != batch + 1:
            raise ValueError(f"{batch} rows of logits but {seen.offsets.shape[0] - 1} rows of seen tokens")
        return _ascending(seen)
    return _listed(seen, batch, vocabulary)


@functools.lru_cache(8)
def _nothing_seen(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    none = torch.zeros(0, dtype=torch.int32)
    return torch.zeros(batch + 1, dtype=torch.int64), none, none, none


def _ascending(seen: SparseSeen) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    offsets, tokens = seen.offsets, seen.tokens
    row = torch.repeat_interleave(torch.arange(offsets.shape[0] - 1), offsets.diff())
    key = (row << 32) + tokens
    if bool((key.diff() > 0).all()):
        return offsets, tokens, seen.counts, seen.in_prompt
    order = key.argsort()
    return offsets, tokens[order], seen.counts[order], seen.in_prompt[order]


def _listed(seen: Seen, batch: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    slot = seen.slot[:batch].numpy()
    counts = seen.counts.numpy()[slot][:, :vocabulary]
    words = np.ascontiguousarray(seen.prompt.numpy()[slot].astype("<i4")).view(np.uint8)
    prompt = np.unpackbits(words, axis=1, bitorder="little")[:, :vocabulary].astype(np.bool_)
    row, token = np.nonzero(prompt | (counts > 0))
    offsets = np.searchsorted(row, np.arange(batch + 1)).astype(np.int64)
    found = (offsets, token.astype(np.int32), counts[row, token], prompt[row, token])
    first, second, third, fourth = (torch.from_numpy(np.ascontiguousarray(part)) for part in found)
    return first, second, third, fourth

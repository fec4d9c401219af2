"""The requests in the batch of vLLM's older model runner, row by row: their parameters, seeds and tokens so far.

vLLM tells its logits processors which request joined, left and moved in the batch. `Requests` listens in as one of
them; it changes no logits.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.sampling import Rows, Seen, SparseSeen
from server.replicas.vllm_sampler_seen import SeenTokens, dense_seen, sparse_seen


class Request:
    """One request, for as long as it stays in the batch."""

    __slots__ = ("outputs", "params", "seed", "seen")

    def __init__(self, params: Any, prompt: list[int] | None, outputs: list[int], seed: int, vocabulary: int) -> None:
        """`params` are vLLM's `SamplingParams`; `outputs` is vLLM's own list, which grows."""
        self.params = params
        self.outputs = outputs
        self.seed = signed64(seed)
        self.seen = SeenTokens(prompt, outputs, vocabulary) if penalised(params) else None


class Requests:
    """Rows of the batch; has the three methods of vLLM's `LogitsProcessor`."""

    def __init__(self, seed: int, vocabulary: int) -> None:
        """`seed` is the engine's: ranks of one model draw the same seeds for requests that name none."""
        self.vocabulary = vocabulary
        self.version = 0
        """Grows whenever a row changes."""
        self._random = random.Random(seed)
        self._rows: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def is_argmax_invariant(self) -> bool:
        """True, as `apply` changes nothing."""
        return True

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` as they are."""
        return logits

    def update_state(self, update: Any) -> None:
        """Follows vLLM's `BatchUpdate` (None: no change) in the order that vLLM's own processors do."""
        if not update:
            return
        self.version += 1
        for row, params, prompt, outputs in update.added:
            seed = params.seed if params.seed is not None else self._random.getrandbits(64)
            self._rows[row] = Request(params, prompt, outputs, seed, self.vocabulary)
        for row in update.removed:
            self._rows.pop(row, None)
        for source, target, direction in update.moved:
            moved, replaced = self._rows.pop(source, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if replaced is not None and direction.name == "SWAP":
                self._rows[source] = replaced

    def parameters(self, device: torch.device) -> Rows:
        """Every row's parameters; positions are as of now. Raises ValueError for what the sampler does not take."""
        ordered = self._ordered()
        seeds = np.array([request.seed for request in ordered], dtype=np.int64)
        return rows_of([request.params for request in ordered], seeds, self.positions(), self.vocabulary, device)

    def positions(self) -> NDArray[np.int64]:
        """How many tokens each row's request has so far, placeholders included."""
        return np.array([len(request.outputs) for request in self._ordered()], dtype=np.int64)

    def seen(self, device: torch.device) -> Seen | SparseSeen | None:
        """What each row has seen; None when no row has a penalty."""
        rows = [request.seen for request in self._ordered()]
        if not any(rows):
            return None
        sparse = sparse_seen(rows)
        return sparse if device.type == "cpu" else dense_seen(sparse, self.vocabulary, device)

    def _ordered(self) -> list[Request]:
        return [self._rows[row] for row in range(len(self._rows))]


def rows_of(
    params: Sequence[Any],
    seeds: NDArray[np.int64],
    positions: NDArray[np.int64],
    vocabulary: int,
    device: torch.device | str = "cpu",
) -> Rows:
    """Rows from vLLM's `SamplingParams`. Raises ValueError for values that the sampler does not take."""
    return Rows.build(
        temperature=[p.temperature for p in params],
        top_k=[min(p.top_k, vocabulary) for p in params],
        top_p=[p.top_p for p in params],
        min_p=[p.min_p for p in params],
        seed=seeds,
        position=positions,
        repetition=[p.repetition_penalty for p in params],
        frequency=[p.frequency_penalty for p in params],
        presence=[p.presence_penalty for p in params],
        vocabulary=vocabulary,
        device=device,
    )


def penalised(params: Any) -> bool:
    """Whether a `SamplingParams` asks for any penalty."""
    return bool(
        params.repetition_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
    )


def signed64(number: int) -> int:
    """The number of the same 64 bits between -2^63 and 2^63 - 1."""
    return (number + 2**63) % 2**64 - 2**63

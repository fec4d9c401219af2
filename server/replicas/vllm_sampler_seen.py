"""Which tokens a request has seen, kept up to date token by token, for the penalties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.sampling import Seen, SparseSeen

PLACEHOLDER = -1
"""Stands in vLLM's output list for a token that is not known on the host yet (async scheduling)."""


class SeenTokens:
    """Distinct tokens of one request with their counts; each step looks at the new output tokens only."""

    def __init__(self, prompt: Sequence[int] | None, outputs: list[int], vocabulary: int) -> None:
        """`outputs` is vLLM's own list of the request, which grows as tokens are drawn."""
        ids = np.unique(np.asarray(prompt if prompt is not None else (), dtype=np.int64))
        self._prompt = ids[(ids >= 0) & (ids < vocabulary)].astype(np.int32)
        self._outputs = outputs
        self._vocabulary = vocabulary
        self._restart()

    def _restart(self) -> None:
        size = len(self._prompt)
        self._size, self._done, self._last = size, 0, PLACEHOLDER
        # Ascending tokens, then room for more.
        self._tokens = np.resize(self._prompt, 2 * size + 64) if size else np.empty(64, dtype=np.int32)
        self._counts = np.zeros(2 * size + 64, dtype=np.int32)
        self._in_prompt = np.arange(2 * size + 64) < size

    def entries(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        """(distinct tokens ascending, how often each was generated, whether it is in the prompt) as of now."""
        self._advance()
        return self._tokens[: self._size], self._counts[: self._size], self._in_prompt[: self._size]

    def _advance(self) -> None:
        outputs = self._outputs
        # vLLM may take tokens back (a failed KV load); what was counted is then counted anew.
        if self._done > len(outputs) or (self._done and outputs[self._done - 1] != self._last):
            self._restart()
        while self._done < len(outputs) and outputs[self._done] != PLACEHOLDER:
            self._last = outputs[self._done]
            self._done += 1
            if 0 <= self._last < self._vocabulary:
                self._count(self._last)

    def _count(self, token: int) -> None:
        place = int(self._tokens[: self._size].searchsorted(token))
        if place == self._size or self._tokens[place] != token:
            self._insert(place, token)
        self._counts[place] += 1

    def _insert(self, place: int, token: int) -> None:
        size = self._size
        if size == len(self._tokens):
            self._tokens, self._counts, self._in_prompt = (
                np.concatenate([column, np.empty_like(column)])
                for column in (self._tokens, self._counts, self._in_prompt)
            )
        for column, value in ((self._tokens, token), (self._counts, 0), (self._in_prompt, False)):
            column[place + 1 : size + 1] = column[place:size]
            column[place] = value
        self._size += 1


def sparse_seen(requests: Sequence[SeenTokens | None]) -> SparseSeen:
    """The tokens of a batch, one row per request; None: nothing to remember, as it has no penalty."""
    entries = [request.entries() for request in requests if request is not None]
    sizes = iter([len(tokens) for tokens, _, _ in entries])
    offsets = np.zeros(len(requests) + 1, dtype=np.int64)
    np.cumsum([0 if request is None else next(sizes) for request in requests], out=offsets[1:])
    tokens, counts, in_prompt = (np.concatenate(column) for column in zip(*entries, strict=True))
    return SparseSeen(
        torch.from_numpy(offsets), torch.from_numpy(tokens), torch.from_numpy(counts), torch.from_numpy(in_prompt)
    )


def dense_seen(sparse: SparseSeen, vocabulary: int, device: torch.device) -> Seen:
    """The same as bitmap and counts on `device`, without waiting for it."""
    sizes = sparse.offsets.diff()
    batch = len(sizes)
    rows = torch.repeat_interleave(torch.arange(batch), sizes)
    tokens = sparse.tokens.long()
    counts = torch.zeros(batch, vocabulary, dtype=torch.int32, device=device)
    _put(counts, rows, tokens, sparse.counts)
    asked = tokens[sparse.in_prompt]
    words = -(-vocabulary // 32)
    # Bits of one word are distinct, so that their sum is their union.
    cells, place = torch.unique(rows[sparse.in_prompt] * words + asked // 32, return_inverse=True)
    bits = torch.zeros(len(cells), dtype=torch.int64).index_add_(0, place, torch.ones_like(asked) << (asked % 32))
    prompt = torch.zeros(batch, words, dtype=torch.int32, device=device)
    _put(prompt, cells // words, cells % words, bits.to(torch.int32))
    return Seen(torch.arange(batch, dtype=torch.int32, device=device), prompt, counts)


def _put(into: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> None:
    def there(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory().to(into.device, non_blocking=True) if into.is_cuda else tensor

    into.index_put_((there(rows), there(columns)), there(values))

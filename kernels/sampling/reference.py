"""The meaning of sampling, slow and obvious: one row at a time, sorted, in numpy; and an independent check of supports.

`sample_reference` is what every kernel must equal bit for bit. `support_float64` shares nothing with it after the
scaled values: a softmax in double precision and a sort, to check that the integer weights keep the right tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.sampling import arithmetic
from kernels.sampling.arithmetic import F32, GREEDY_BELOW, I64
from kernels.sampling.rows import Rows, Sampled, Seen, SparseSeen

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Parameters:
    """One row of `Rows` as numpy scalars."""

    temperature: np.float32
    inverse_temperature: np.float32
    top_k: int
    top_p: np.float32
    min_p: np.float32
    log_min_p: np.float32
    word: int
    repetition: np.float32
    frequency: np.float32
    presence: np.float32

    @classmethod
    def of(cls, rows: Rows) -> list[Parameters]:
        """Every row's parameters, with its random word drawn from seed and position."""
        words = arithmetic.philox(rows.seed.cpu().numpy(), rows.position.cpu().numpy())
        names = ("temperature", "inverse_temperature", "top_k", "top_p", "min_p", "log_min_p")
        columns = [getattr(rows, name).cpu().numpy() for name in names]
        penalties = [getattr(rows, name).cpu().numpy() for name in ("repetition", "frequency", "presence")]
        zipped = zip(*columns, words, *penalties, strict=True)
        return [cls(t, i, int(k), p, m, lm, int(w), r, f, s) for t, i, k, p, m, lm, w, r, f, s in zipped]

    @property
    def greedy(self) -> bool:
        return bool(self.temperature < GREEDY_BELOW)

    def limits_k(self, vocabulary: int) -> bool:
        """Whether top-k is on."""
        return 0 < self.top_k < vocabulary


def sample_reference(
    logits: torch.Tensor, rows: Rows, seen: Seen | SparseSeen | None = None, logprobs: int | None = None
) -> Sampled:
    """One token per row of `logits` [B, V]; with `logprobs` = n also its log-probability, rank and the top n."""
    raw = [arithmetic.clean(row) for row in logits.detach().float().cpu().numpy()]
    parameters = Parameters.of(rows)
    drawn = []
    for row, (x, p) in enumerate(zip(raw, parameters, strict=True)):
        drawn.append(draw(penalised(x, p, *seen_tokens(seen, row, x.shape[0])), p))
    tokens = torch.tensor(drawn, dtype=torch.int64)
    if logprobs is None:
        return Sampled(tokens)
    reported = [report(x, token, logprobs) for x, token in zip(raw, drawn, strict=True)]
    chosen, rank, ids, values = (np.array(column) for column in zip(*reported, strict=True))
    return Sampled(
        tokens,
        torch.from_numpy(chosen.astype(np.float32)),
        torch.from_numpy(rank.astype(np.int32)),
        torch.from_numpy(ids.reshape(len(drawn), logprobs).astype(np.int32)),
        torch.from_numpy(values.reshape(len(drawn), logprobs).astype(np.float32)),
    )


def seen_tokens(seen: Seen | SparseSeen | None, row: int, vocabulary: int) -> tuple[I64, Bools]:
    """(how often each token was generated, whether it is in the prompt), both [V]."""
    counts, in_prompt = np.zeros(vocabulary, dtype=np.int64), np.zeros(vocabulary, dtype=np.bool_)
    if isinstance(seen, SparseSeen):
        entries = slice(int(seen.offsets[row]), int(seen.offsets[row + 1]))
        tokens = seen.tokens[entries].numpy()
        counts[tokens], in_prompt[tokens] = seen.counts[entries].numpy(), seen.in_prompt[entries].numpy()
    elif seen is not None:
        slot = int(seen.slot[row])
        counts[:] = seen.counts[slot].cpu().numpy()[:vocabulary]
        words = seen.prompt[slot].cpu().numpy().astype("<i4").view(np.uint8)
        in_prompt[:] = np.unpackbits(words, bitorder="little")[:vocabulary]
    return counts, in_prompt


def penalised(x: F32, p: Parameters, counts: I64, in_prompt: Bools) -> F32:
    """`x` [V] after repetition, frequency and presence penalties, in vLLM's order and rounding."""
    alive, given = x > -np.inf, counts > 0
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = x * np.where(x > 0, np.float32(1.0) / p.repetition, p.repetition)
        y = np.where((given | in_prompt) & (p.repetition != 1), scaled, x)
        y = np.where(given, y - p.frequency * counts.astype(np.float32), y)
        y = np.where(given, y - p.presence, y)
    return arithmetic.bounded(y, alive)


def scaled(x: F32, p: Parameters) -> F32:
    """`x` over the temperature: one multiply by its IEEE inverse."""
    with np.errstate(over="ignore"):
        return arithmetic.bounded(x * p.inverse_temperature, x > -np.inf)


def draw(x: F32, p: Parameters) -> int:
    """The token of one row of penalised logits [V]."""
    if p.greedy:
        return int(np.argmax(x))
    y = scaled(x, p)
    if y.max() == -np.inf:
        return 0
    if not p.limits_k(y.shape[0]) and p.min_p <= 0 and p.top_p >= 1:
        return _draw_whole(y, p.word)
    survivors = support(y, p)
    weights = np.where(survivors, _weights(y), 0)
    target = arithmetic.scaled(p.word, int(weights.sum()))
    return int(np.searchsorted(np.cumsum(weights), target, side="right"))


def support(y: F32, p: Parameters) -> Bools:
    """Which tokens of a row [V] of scaled values outlive min-p, then top-k, then top-p."""
    order = np.argsort(-y, kind="stable")  # the total order: value descending, then id ascending
    order = order[y[order] > -np.inf]
    if p.min_p > 0:
        order = order[y[order] >= y.max() + p.log_min_p]
    if p.limits_k(y.shape[0]):
        order = order[: p.top_k]
    if p.top_p < 1:
        weights = _weights(y)[order]
        whole = p.min_p <= 0 and not p.limits_k(y.shape[0])
        total = _total(y) if whole else int(weights.sum())
        before = np.cumsum(weights) - weights
        kept = before < arithmetic.nucleus_mass(p.top_p, total)
        kept[0] = True
        order = order[kept]
    survivors = np.zeros(y.shape[0], dtype=np.bool_)
    survivors[order] = True
    return survivors


def support_float64(y: F32, p: Parameters, nearest: float = 1e-6) -> tuple[Bools, Bools]:
    """(tokens that must survive, tokens that may) by a softmax and a sort in double precision.

    The two differ only where a cumulative mass lies within `nearest`, relatively, of top_p: there rounding may decide
    either way. Both [V].
    """
    v = y.shape[0]
    finite = y > -np.inf
    ids = np.lexsort((np.arange(v), -y.astype(np.float64)))
    ids = ids[finite[ids]]
    if p.min_p > 0:
        ids = ids[y[ids] >= np.float32(y.max() + p.log_min_p)]
    if p.limits_k(v):
        ids = ids[: p.top_k]
    must, may = np.zeros(v, dtype=np.bool_), np.zeros(v, dtype=np.bool_)
    if p.top_p >= 1:
        must[ids] = may[ids] = True
        return must, may
    mass = np.exp(y[ids].astype(np.float64) - float(y.max()))
    before = (np.cumsum(mass) - mass) / mass.sum()
    may[ids[before < float(p.top_p) * (1 + nearest)]] = True
    must[ids[before < float(p.top_p) * (1 - nearest)]] = True
    may[ids[0]] = must[ids[0]] = True
    return must, may


def report(x: F32, token: int, count: int) -> tuple[float, int, I64, F32]:
    """(log-probability, rank, top ids, their log-probabilities) of raw logits [V]; -inf all over where nothing lives.

    The rank is vLLM's: how many raw logits are at least the token's.
    """
    order = np.argsort(-x, kind="stable")[:count]
    rank = int((x >= x[token]).sum())
    if x.max() == -np.inf:
        return -np.inf, rank, order, np.full(count, -np.inf, dtype=np.float32)
    shifted = x - x.max()
    logprobs = shifted - np.log(np.exp(shifted, dtype=np.float32).sum(dtype=np.float32))
    return float(logprobs[token]), rank, order, logprobs[order]


def _weights(y: F32) -> I64:
    """Weights [V] relative to the row's exponent, 0 at -inf."""
    n, m = arithmetic.exponent_mantissa(y)
    alive = y > -np.inf
    return np.where(alive, arithmetic.weight(np.where(alive, n, n[alive].max()), m, n[alive].max()), 0)


def _total(y: F32) -> int:
    """The mass of a whole row: tile sums, each shifted down to the row's exponent."""
    return int(arithmetic.shifted_totals(*arithmetic.tile_totals(y))[1].sum())


def _draw_whole(y: F32, word: int) -> int:
    """A draw over all tokens: first the tile by the shifted sums, then inside it at the tile's own exponent."""
    top, sums = arithmetic.tile_totals(y)
    base, totals = arithmetic.shifted_totals(top, sums)
    target = arithmetic.scaled(word, int(totals.sum()))
    tile = int(np.searchsorted(np.cumsum(totals), target, side="right"))
    inside = (target - int(totals[:tile].sum())) << int(base - top[tile])
    values = y[tile * arithmetic.TILE : (tile + 1) * arithmetic.TILE]
    n, m = arithmetic.exponent_mantissa(values)
    weights = np.where(values > -np.inf, arithmetic.weight(n, m, top[tile]), 0)
    return tile * arithmetic.TILE + int(np.searchsorted(np.cumsum(weights), inside, side="right"))

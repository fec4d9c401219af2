"""Random batches for the samplers' tests: every kind of row that has surprised a sampler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.sampling.rows import Rows, Seen

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    logits: torch.Tensor
    parameters: dict[str, NDArray[Any]]
    prompts: list[NDArray[np.int64]]
    outputs: list[NDArray[np.int64]]

    def rows(self, device: str = "cpu", only: slice = slice(None)) -> Rows:
        """The parameters as `Rows`."""
        chosen = {name: values[only] for name, values in self.parameters.items()}
        return Rows.build(**chosen, vocabulary=self.logits.shape[1], device=device)

    def seen(self, device: str = "cpu") -> Seen:
        """What the rows have seen."""
        return Seen.build(self.prompts, self.outputs, vocabulary=self.logits.shape[1], device=device)


def cases(seed: int, rows: int, vocabularies: tuple[int, ...], batch: int) -> Iterator[Case]:
    """Batches of `batch` rows until there were `rows` of them; vocabularies and float types take turns."""
    rng = np.random.default_rng(seed)
    for turn in range(-(-rows // batch)):
        v = vocabularies[turn % len(vocabularies)]
        logits = torch.from_numpy(np.stack([_logits(rng, v) for _ in range(batch)])).to(DTYPES[turn % 3])
        seen = [[rng.integers(0, v, rng.integers(0, 20)) for _ in range(batch)] for _ in range(2)]
        yield Case(logits, _parameters(rng, v, batch), *seen)


def _logits(rng: np.random.Generator, v: int) -> NDArray[np.float32]:
    kind = rng.integers(0, 10)
    x = rng.normal(0, rng.choice([0.05, 1, 3, 10]), v)
    if kind == 0:
        x[:] = rng.choice([0.0, -7.5, 1000.0])  # flat
    elif kind == 1:
        x[:] = -np.inf
        x[rng.integers(0, v)] = rng.choice([-3.0, 0.0, 5.0])  # one-hot
    elif kind == 2:
        x[rng.random(v) < 0.9] = -np.inf
    elif kind == 3:
        x = np.round(x)  # ties by the dozen
    elif kind == 4:
        x[rng.integers(0, v, 3)] = [np.nan, np.inf, -np.inf]
    elif kind == 5 and rng.random() < 0.3:
        x[:] = rng.choice([-np.inf, np.nan])
    elif kind == 6:
        x = -np.sort(-x) if rng.random() < 0.5 else np.sort(x)
    return x.astype(np.float32)


def _parameters(rng: np.random.Generator, v: int, batch: int) -> dict[str, NDArray[Any]]:
    k = np.where(rng.random(batch) < 0.5, rng.integers(1, v + 1, batch), rng.choice([0, -1, 1, 2, v, v + 5], batch))
    off = rng.random((6, batch)) < 0.5
    return {
        "temperature": rng.choice([0.0, 1e-5, 0.3, 0.7, 1.0, 2.0], batch, p=[0.1, 0.05, 0.2, 0.25, 0.3, 0.1]),
        "top_k": np.where(off[0], 0, k),
        "top_p": np.where(off[1], 1.0, rng.choice([0.0, 1e-9, 0.1, 0.5, 0.9, 0.99, 0.9999999], batch)),
        "min_p": np.where(off[2] | (rng.random(batch) < 0.5), 0.0, rng.choice([1e-6, 0.01, 0.2, 1.0], batch)),
        "seed": rng.integers(-(2**63), 2**63 - 1, batch),
        "position": rng.integers(0, 2**40, batch),
        "repetition": np.where(off[3], 1.0, rng.choice([0.5, 1.1, 1.7], batch)),
        "frequency": np.where(off[4], 0.0, rng.choice([-0.5, 0.3, 2.0], batch)),
        "presence": np.where(off[5], 0.0, rng.choice([-1.0, 0.25, 2.0], batch)),
    }

"""Paired ratios between arms that were measured in turn, with a bootstrap interval of their median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median over rounds of one arm's figure over another's in the same round, and its 95 % interval."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def paired(figures: Sequence[float], base: Sequence[float], *, draws: int = 10_000, seed: int = 0) -> Ratio:
    """Percentile bootstrap over rounds. Raises ValueError unless both have the same rounds, all above 0."""
    if len(figures) != len(base) or not figures:
        raise ValueError(f"need the same rounds of both, got {len(figures)} and {len(base)}")
    if min(*figures, *base) <= 0:
        raise ValueError("a figure of 0 has no ratio")
    ratios = np.asarray(figures) / np.asarray(base)
    picks = np.random.default_rng(seed).integers(0, len(ratios), (draws, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


def order(arms: Sequence[str], rounds: int) -> list[list[str]]:
    """Arms forwards and backwards in turn (A B, B A, A B ...), so that drift favours none."""
    return [list(arms) if turn % 2 == 0 else list(reversed(arms)) for turn in range(rounds)]

"""What `kernels.stopping.tokens.advance` answers, from the whole history: slow and obvious."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def stopped(
    histories: Sequence[Sequence[int]], stops: Sequence[Sequence[Sequence[int]]]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(sequence, held), both int32 [B], for the tokens and the stop sequences of B rows.

    No stop sequence has ended before the last token of a history.
    """
    rows = [_row(list(history), [list(each) for each in mine]) for history, mine in zip(histories, stops, strict=True)]
    table = np.array(rows, dtype=np.int32).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _row(history: list[int], sequences: list[list[int]]) -> tuple[int, int]:
    winners = [index for index, each in enumerate(sequences) if not _ended_inside(each, sequences)]
    ended = [index for index in winners if _ends_with(history, sequences[index])]
    if ended:
        first = max(ended, key=lambda index: (len(sequences[index]), -index))
        return first, len(sequences[first])
    beginnings = [sequences[index][:length] for index in winners for length in range(1, len(sequences[index]))]
    return -1, max((len(each) for each in beginnings if _ends_with(history, each)), default=0)


def _ends_with(tokens: list[int], end: list[int]) -> bool:
    return len(tokens) >= len(end) and tokens[len(tokens) - len(end) :] == end


def _ended_inside(sequence: list[int], sequences: list[list[int]]) -> bool:
    return any(_ends_with(sequence[:length], other) for length in range(1, len(sequence)) for other in sequences)

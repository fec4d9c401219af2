"""What a compiled CPU kernel works on: words that say where everything is.

A kernel takes one pointer to int64 words, so that a thread team can run it without Python, and its functions pass that
one array on: passing the forty arrays themselves makes numba compile for a minute. The words of a thread are a copy in
front of its scratch, in which the scratch's offsets have become addresses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.sampling.arithmetic import TILE
from kernels.sampling.cpu_compile import compiled
from kernels.sampling.cpu_intrinsics import i64s

GROUP = 64  # tokens whose maximum is kept
BLOCK = 16  # groups whose maximum is taken again when a row ends
CHUNK = 8  # tiles a thread takes at a time
BUCKETS = 2048  # of the histogram that narrows a long selection

# Numbers of the call. RAW: address of the logits; STRIDE: elements between rows; TOP: n of the reported top n;
# REPORTS: whether logprobs are asked for; ELEMENT: BF16, FP16 or FP32.
RAW, STRIDE, BATCH, VOCABULARY, TOP, REPORTS, ELEMENT, TILES, GROUPS, BLOCKS, SCRATCH, SCRATCH_BYTES = range(12)
BF16, FP16, FP32 = range(3)
# i64 [2 + B]: next thread, next chunk, chunks done of each row.
CONTROL = 12
# Rows: [B] each.
TEMPERATURE, INVERSE, TOP_K, TOP_P, MIN_P, LOG_MIN_P, SEED, POSITION, REPETITION, FREQUENCY, PRESENCE = range(13, 24)
# Seen: i64 [B + 1]; i32, ascending in each row; i32; u8.
SEEN_OFFSETS, SEEN_TOKENS, SEEN_COUNTS, SEEN_PROMPT = range(24, 28)
# Outputs: i64 [B], f32 [B], i32 [B], i32 [B, n], f32 [B, n].
TOKENS, LOGPROB, RANK, TOP_TOKENS, TOP_LOGPROBS = range(28, 33)
# Left by the scan. f32 [B, groups]: clean maxima after penalties, and before them (written for penalised rows where
# logprobs are asked for); i64 [B, tiles]: exponents and sums of rows that need the weight of every token, and of raw
# logits where logprobs are asked for.
MAXIMA, RAW_MAXIMA, EXPONENTS, SUMS, RAW_EXPONENTS, RAW_SUMS = range(33, 39)
# A thread's scratch, in front of it its words. f32 [TILE], f32 [groups], f32 [blocks]; candidates in the order of
# their ids: f32 [V], i32 [V], i64 [V]; a selection's working copy: f32 [V], i64 [V]; i32 [TILE] twice; i64 [BUCKETS].
OWN, X, GROUP_Y, BLOCK_Y, Y, IDS, WEIGHTS, SORTED_Y, SORTED_WEIGHTS, MANTISSAS, DISTANCES, MASSES = range(39, 51)
COUNT = 51


def scratch_layout(vocabulary: int) -> tuple[list[int], int]:
    """Offsets of OWN .. MASSES in a thread's scratch, and its bytes."""
    groups, blocks, _ = counts(vocabulary)
    wide, narrow = 8 * vocabulary, 4 * vocabulary
    own = [8 * COUNT, 4 * TILE, 4 * groups, 4 * blocks]
    sizes = [*own, narrow, narrow, wide, narrow, wide, 4 * TILE, 4 * TILE, 8 * BUCKETS]
    ends = np.cumsum([-(-size // 64) * 64 for size in sizes]).tolist()
    return [0, *ends[:-1]], ends[-1]


def counts(vocabulary: int) -> tuple[int, int, int]:
    """(groups, blocks, tiles) of a row."""
    groups = -(-vocabulary // GROUP)
    return groups, -(-groups // BLOCK), -(-vocabulary // TILE)


@compiled
def words_of_thread(words: Any, thread: Any) -> Any:
    """The words of a thread, copied in front of its scratch."""
    base = words[SCRATCH] + thread * words[SCRATCH_BYTES]
    own = i64s(base, COUNT)
    for i in range(COUNT):
        own[i] = words[i] + base if i >= OWN else words[i]
    return own

"""What one sampling call takes and gives: a set of parameters per row, the tokens a row has seen, what was drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kernels.sampling.arithmetic import GREEDY_BELOW

INT32_MAX = 2**31 - 1
LARGEST_PENALTY = 2.0**64  # times a count of 2^31 this is far from overflow
SMALLEST_REPETITION, LARGEST_REPETITION = 2.0**-64, 2.0**64
VOCABULARY_LIMIT = 2**19

# name -> (dtype, default, smallest, largest)
_FIELDS: dict[str, tuple[type[np.generic], float, float, float]] = {
    "seed": (np.int64, 0, -(2**63), 2**63 - 1),
    "position": (np.int64, 0, 0, 2**63 - 1),
    "temperature": (np.float32, 1.0, 0.0, 2.0**64),
    "top_k": (np.int32, 0, -INT32_MAX, INT32_MAX),
    "top_p": (np.float32, 1.0, 0.0, 2.0**64),
    "min_p": (np.float32, 0.0, 0.0, 1.0),
    "repetition": (np.float32, 1.0, SMALLEST_REPETITION, LARGEST_REPETITION),
    "frequency": (np.float32, 0.0, -LARGEST_PENALTY, LARGEST_PENALTY),
    "presence": (np.float32, 0.0, -LARGEST_PENALTY, LARGEST_PENALTY),
}
_DERIVED = ("inverse_temperature", "log_min_p")


@dataclass(frozen=True)
class Rows:
    """Sampling parameters, one entry per row of logits: tensors [B] on the logits' device, contiguous.

    The `any_*` flags say on the host what some row needs, so a launch can leave the rest out without asking the
    device. True is always correct; `build` sets them exactly.
    """

    temperature: torch.Tensor  # f32; below 1e-5: greedy
    inverse_temperature: torch.Tensor  # f32; 1 / temperature, 1 where greedy
    top_k: torch.Tensor  # i32; <= 0 or >= V: off
    top_p: torch.Tensor  # f32; >= 1: off
    min_p: torch.Tensor  # f32; 0: off
    log_min_p: torch.Tensor  # f32; ln(min_p), -inf where off
    seed: torch.Tensor  # i64
    position: torch.Tensor  # i64
    repetition: torch.Tensor  # f32; 1: off
    frequency: torch.Tensor  # f32; 0: off
    presence: torch.Tensor  # f32; 0: off
    any_greedy: bool = True
    any_random: bool = True
    any_top_k: bool = True  # in a row that is not greedy, as the next three
    any_top_p: bool = True
    any_min_p: bool = True
    any_whole: bool = True  # some row needs the weight of every token: neither top-k nor min-p
    any_penalty: bool = True
    vocabulary: int | None = None  # the V that the flags were set for; None: they hold for any

    def __len__(self) -> int:
        return self.temperature.shape[0]

    @classmethod
    def build(
        cls,
        *,
        temperature: ArrayLike,
        top_k: ArrayLike = 0,
        top_p: ArrayLike = 1.0,
        min_p: ArrayLike = 0.0,
        seed: ArrayLike = 0,
        position: ArrayLike = 0,
        repetition: ArrayLike = 1.0,
        frequency: ArrayLike = 0.0,
        presence: ArrayLike = 0.0,
        vocabulary: int | None = None,
        device: torch.device | str = "cpu",
    ) -> Rows:
        """Rows from plain numbers or sequences of B of them, in one copy to `device`.

        `vocabulary` (the V of the logits) lets the flags know that a `top_k` of V is off.

        Raises:
            ValueError: a value is outside its field's range, or lengths differ; names the field.
        """
        given: dict[str, ArrayLike] = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "seed": seed,
            "position": position,
            "repetition": repetition,
            "frequency": frequency,
            "presence": presence,
        }
        count = _length(given)
        host = {name: _checked(name, given[name], count) for name in _FIELDS}
        host |= _derive(host)
        return cls(**_upload(host, torch.device(device)), **_flags(host, vocabulary))


@dataclass(frozen=True)
class Seen:
    """Tokens each state row has seen, as bitmap and counts: the layout vLLM's GPU runner keeps."""

    slot: torch.Tensor  # i32 [B]: the state row of a batch row
    prompt: torch.Tensor  # i32 [R, ceil(V / 32)]: bit t % 32 of word t // 32 is set where t is in the prompt
    counts: torch.Tensor  # i32 [R, V]: how often t was generated
    # i32 [R, ceil(V / 32)]: bits of the tokens with a count above 0; with it a GPU reads only those counts
    generated: torch.Tensor | None = None

    @classmethod
    def build(
        cls,
        prompts: Sequence[ArrayLike],
        outputs: Sequence[ArrayLike],
        *,
        vocabulary: int,
        device: torch.device | str = "cpu",
    ) -> Seen:
        """One state row per batch row, from token ids; ids outside the vocabulary are left out."""
        counts = np.zeros((len(prompts), vocabulary), dtype=np.int32)
        asked = np.zeros((len(prompts), vocabulary), dtype=np.bool_)
        for row, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
            asked[row, _inside(prompt, vocabulary)] = True
            np.add.at(counts[row], _inside(output, vocabulary), 1)
        slot = np.arange(len(prompts), dtype=np.int32)
        tensors = (torch.from_numpy(array).to(device) for array in (slot, bitmap(asked), counts, bitmap(counts > 0)))
        return cls(*tensors)


@dataclass(frozen=True)
class SparseSeen:
    """The same per batch row as lists of distinct tokens (CSR), for the CPU: work follows what was seen, not V."""

    offsets: torch.Tensor  # i64 [B + 1]: row b owns entries offsets[b] .. offsets[b + 1]
    tokens: torch.Tensor  # i32 [N], distinct within a row
    counts: torch.Tensor  # i32 [N]: how often it was generated
    in_prompt: torch.Tensor  # bool [N]

    @classmethod
    def build(
        cls, prompts: Sequence[ArrayLike], outputs: Sequence[ArrayLike], *, vocabulary: int
    ) -> SparseSeen:
        """From the token ids of each batch row; ids outside the vocabulary are left out."""
        tokens, counts, in_prompt, offsets = [], [], [], [0]
        for prompt, output in zip(prompts, outputs, strict=True):
            asked, given = np.unique(_inside(prompt, vocabulary)), _inside(output, vocabulary)
            distinct = np.union1d(asked, given)
            times = np.zeros(distinct.shape[0], dtype=np.int32)
            np.add.at(times, np.searchsorted(distinct, given), 1)
            tokens.append(distinct.astype(np.int32))
            counts.append(times)
            in_prompt.append(np.isin(distinct, asked))
            offsets.append(offsets[-1] + distinct.shape[0])
        return cls(
            offsets=torch.tensor(offsets, dtype=torch.int64),
            tokens=torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int32), *tokens])),
            counts=torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int32), *counts])),
            in_prompt=torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.bool_), *in_prompt])),
        )


@dataclass(frozen=True)
class Sampled:
    """What was drawn; the last four only where logprobs were asked for."""

    tokens: torch.Tensor  # i64 [B]
    logprob: torch.Tensor | None = None  # f32 [B]: log-softmax of the raw logits at the token
    rank: torch.Tensor | None = None  # i32 [B]: how many raw logits are at least the token's
    top_tokens: torch.Tensor | None = None  # i32 [B, n], in the total order of the raw logits
    top_logprobs: torch.Tensor | None = None  # f32 [B, n]


def bitmap(members: NDArray[np.bool_]) -> NDArray[np.int32]:
    """[R, V] flags as i32 [R, ceil(V / 32)]: bit t % 32 of word t // 32."""
    padded = np.pad(members, ((0, 0), (0, -members.shape[1] % 32)))
    return np.packbits(padded, axis=1, bitorder="little").view("<i4").astype(np.int32)


def _length(given: dict[str, ArrayLike]) -> int:
    """B: the length of the sequences among `given`, 1 where there are only numbers."""
    lengths = {name: np.shape(value) for name, value in given.items() if np.ndim(value)}
    for name, shape in lengths.items():
        if len(shape) != 1:
            raise ValueError(f"{name} must be a number or one per row, not of shape {list(shape)}")
    if len(set(lengths.values())) > 1:
        raise ValueError("lengths differ: " + ", ".join(f"{name} {shape[0]}" for name, shape in lengths.items()))
    return next(iter(lengths.values()))[0] if lengths else 1


def _checked(name: str, value: ArrayLike, count: int) -> NDArray[Any]:
    dtype, _, low, high = _FIELDS[name]
    integral = issubclass(dtype, np.integer)
    wide = np.asarray(value) if integral else np.asarray(value, dtype=np.float64)
    if integral and wide.dtype.kind not in "iub" and wide.size:
        raise ValueError(f"{name} must be whole numbers from {int(low)} to {int(high)}, not {wide.dtype}")
    outside = ~((wide >= low) & (wide <= high))  # NaN is outside too
    if outside.any():
        worst = wide.reshape(-1)[np.argmax(outside.reshape(-1))]
        raise ValueError(f"{name} must be from {low:.6g} to {high:.6g}, not {worst}")
    return np.broadcast_to(wide.astype(dtype), (count,))


def _derive(host: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Inverse temperature as the IEEE quotient and ln(min_p) rounded once from double."""
    temperature, min_p = host["temperature"].astype(np.float32), host["min_p"].astype(np.float64)
    greedy = temperature < GREEDY_BELOW
    inverse = np.float32(1.0) / np.where(greedy, np.float32(1.0), temperature)
    logs = np.array([math.log(p) if p > 0 else -math.inf for p in min_p.tolist()], dtype=np.float32)
    return {"inverse_temperature": inverse, "log_min_p": logs}


def _flags(host: dict[str, NDArray[Any]], vocabulary: int | None) -> dict[str, Any]:
    greedy = host["temperature"] < GREEDY_BELOW
    top_k = ~greedy & (host["top_k"] > 0) & (host["top_k"] < (vocabulary or INT32_MAX))
    surely_top_k = top_k if vocabulary else np.zeros_like(top_k)
    top_p = ~greedy & (host["top_p"] < 1.0)
    min_p = ~greedy & (host["min_p"] > 0.0)
    penalty = (host["repetition"] != 1.0) | (host["frequency"] != 0.0) | (host["presence"] != 0.0)
    return {
        "any_greedy": bool(greedy.any()),
        "any_random": bool((~greedy).any()),
        "any_top_k": bool(top_k.any()),
        "any_top_p": bool(top_p.any()),
        "any_min_p": bool(min_p.any()),
        "any_whole": bool((~greedy & ~surely_top_k & ~min_p).any()),
        "any_penalty": bool(penalty.any()),
        "vocabulary": vocabulary,
    }


def _upload(host: dict[str, NDArray[Any]], device: torch.device) -> dict[str, Any]:
    """All fields as views of one buffer, so that a device gets them in one copy that does not block the host."""
    stops = np.cumsum([_padded(host[name].nbytes) for name in (*_FIELDS, *_DERIVED)]).tolist()
    buffer = torch.zeros(stops[-1], dtype=torch.uint8)
    fields = {}
    for name, stop in zip((*_FIELDS, *_DERIVED), stops, strict=True):
        start, raw = stop - _padded(host[name].nbytes), np.array(host[name])
        buffer[start : start + raw.nbytes] = torch.from_numpy(raw.view(np.uint8))
        fields[name] = (start, start + raw.nbytes, torch.from_numpy(raw).dtype)
    packed = buffer.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else buffer
    return {name: packed[start:stop].view(dtype) for name, (start, stop, dtype) in fields.items()}


def _padded(size: int) -> int:
    """Fields start at multiples of 16 bytes: whether they do is part of what Triton compiles for."""
    return -(-size // 16) * 16


def _inside(tokens: ArrayLike, vocabulary: int) -> NDArray[np.int64]:
    ids = np.asarray(tokens, dtype=np.int64)
    return ids[(ids >= 0) & (ids < vocabulary)]

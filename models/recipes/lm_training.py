"""The training loop of the Python language model."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train; a step sees `batch * length` tokens throughout."""

    steps: int = 2600
    max_minutes: float = 40.0
    """The schedule is squeezed to end by then, so a slow machine trains less but still anneals."""
    peak_rate: float = 3e-3
    warmup_steps: int = 50
    batch: int = 8
    length: int = 512
    long_length: int = 2048
    long_share: float = 0.12
    """Share of the schedule, at its end, that uses sequences of `long_length`."""
    report_every: int = 20
    checkpoint_minutes: float = 4.0

    def rate(self, step: int, progress: float) -> float:
        """Learning rate at a 0-based `step` when `progress` (0 to 1) of the schedule has passed."""
        warmup = min(1.0, (step + 1) / self.warmup_steps)
        return self.peak_rate * warmup * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress)))

    def shape(self, progress: float) -> tuple[int, int]:
        """(sequences, tokens per sequence) of the next step."""
        if progress < 1 - self.long_share:
            return self.batch, self.length
        return max(1, self.batch * self.length // self.long_length), self.long_length


class TokenStream:
    """An endless stream of documents' token ids, reshuffled on every pass."""

    def __init__(self, documents: Sequence[Sequence[int]], seed: int) -> None:
        """Each document is a list of token ids; `seed` fixes the order of every pass."""
        self._documents = [torch.tensor(document, dtype=torch.int16) for document in documents]
        self._rng = random.Random(seed)
        self._buffer = torch.empty(0, dtype=torch.int16)
        self.tokens = sum(len(document) for document in documents)

    def take(self, sequences: int, length: int) -> Tensor:
        """The next `sequences * length` ids as an int64 tensor of that shape."""
        wanted = sequences * length
        while len(self._buffer) < wanted:
            self._rng.shuffle(self._documents)
            self._buffer = torch.cat([self._buffer, *self._documents])
        head, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
        return head.long().view(sequences, length)


def train(
    model: LlamaForCausalLM,
    stream: TokenStream,
    schedule: Schedule,
    checkpoint: Callable[[int], None],
) -> int:
    """Train `model` in place, calling `checkpoint(step)` now and then; returns the steps taken."""
    optimizers = _optimizers(model, schedule.peak_rate)
    # Fused kernels make a step about 1.4 times as fast; each of the two shapes is compiled once.
    compiled = torch.compile(model, dynamic=False)
    started = last_checkpoint = time.monotonic()
    step, progress, window = 0, 0.0, 0.0
    while progress < 1:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = schedule.rate(step, progress)
        window += _step(compiled, optimizers, stream.take(*schedule.shape(progress)))
        step += 1
        minutes = (time.monotonic() - started) / 60
        progress = max(step / schedule.steps, minutes / schedule.max_minutes)
        if step % schedule.report_every == 0:
            loss = window / schedule.report_every
            print(f"step {step} loss {loss:.3f} {progress:.1%} {minutes:.1f} min", flush=True)
            window = 0.0
        if time.monotonic() - last_checkpoint > 60 * schedule.checkpoint_minutes:
            checkpoint(step)
            last_checkpoint = time.monotonic()
    return step


def _optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learns more from the same few steps; AdamW for the rest."""
    inner = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    tables = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" in name]
    gains = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": tables, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True),
    ]


def _step(model: Callable[..., Any], optimizers: list[torch.optim.Optimizer], ids: Tensor) -> float:
    """One update on `ids` (int64, sequences by tokens); returns the loss in nats per token."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.item())

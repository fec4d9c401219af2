"""Hearth's sampler in vLLM's older model runner (the CPU's, and some models' on a GPU).

Masks, bad words, biases and min-tokens stay vLLM's own steps; penalties, temperature, min-p, top-k, top-p, the draw
and the logprobs are `kernels.sampling`. What it does not cover goes to vLLM's own sampler, and the log says so once.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.logits_processor import LogitBiasLogitsProcessor, MinTokensLogitsProcessor
from vllm.v1.sample.sampler import Sampler

from kernels.sampling import Rows, Sampled, sample
from server.replicas.vllm_sampler_requests import Requests
from server.replicas.vllm_sampler_warm import compile_for

log = logging.getLogger("vllm.hearth")


class BatchSampler(Sampler):  # type: ignore[misc]  # vLLM has no types for mypy here
    """vLLM's `Sampler`, drawn by `kernels.sampling`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._said: set[str] = set()
        self._rows: Rows | None = None
        self._built_for = -1

    def forward(
        self,
        logits: torch.Tensor,
        sampling_metadata: Any,
        predict_bonus_token: bool = False,
        logprobs_mode_override: str | None = None,
    ) -> Any:
        """One token per row of `logits` [B, V], which may be overwritten, as vLLM's own `forward` may."""
        requests = requests_of(sampling_metadata)
        if requests is None:  # said at the start, unless this is vLLM's warm-up, which has no processors at all
            if not any(True for _ in sampling_metadata.logitsprocs.all):
                compile_for(logits)
        elif reason := self._uncovered(sampling_metadata, requests, logits, predict_bonus_token):
            self._say(reason)
        elif (rows := self._current(requests, logits.device)) is None:
            self._say("a parameter out of the kernels' range")
        else:
            took_draw(sampling_metadata.generators)
            return self._sampled(logits, sampling_metadata, rows, requests)
        will_draw(sampling_metadata.generators)
        return super().forward(logits, sampling_metadata, predict_bonus_token, logprobs_mode_override)

    def _sampled(self, logits: torch.Tensor, metadata: Any, rows: Rows, requests: Requests) -> Any:
        wanted = metadata.max_num_logprobs
        edited = self._edited(logits, metadata, keep=wanted is not None)
        seen = requests.seen(logits.device) if rows.any_penalty else None
        drawn = sample(edited, rows, seen, wanted if edited is logits else None)
        if wanted is None:
            logprobs = None
        elif edited is logits:
            logprobs = as_vllm(drawn)
        else:  # the logprobs are those of the logits before masks and biases
            logprobs = self.gather_logprobs(self.compute_logprobs(logits), wanted, drawn.tokens)
        return SamplerOutput(
            sampled_token_ids=drawn.tokens.to(torch.int32).unsqueeze(-1), logprobs_tensors=logprobs
        )

    @staticmethod
    def gather_logprobs(logprobs: torch.Tensor, num_logprobs: int, token_ids: torch.Tensor) -> Any:
        """As vLLM's, for `logprobs` [N, V]; on a CPU without `torch.compile`, which would halt the first request."""
        if not logprobs.is_cpu:
            return Sampler.gather_logprobs(logprobs, num_logprobs, token_ids)
        chosen = token_ids.unsqueeze(-1)
        value = logprobs.gather(-1, chosen)
        top, ids = torch.topk(logprobs, num_logprobs, dim=-1)
        return LogprobsTensors(
            torch.cat((chosen, ids), dim=1).to(torch.int32),
            torch.cat((value, top), dim=1),
            (logprobs >= value).sum(-1),
        )

    def _uncovered(self, metadata: Any, requests: Requests, logits: torch.Tensor, bonus: bool) -> str | None:
        """Why this batch is for vLLM's own sampler; None when it is not."""
        wanted = metadata.max_num_logprobs
        holder = metadata.thinking_budget_state_holder
        if bonus:
            return "speculative decoding"
        if wanted is not None and self.logprobs_mode != "raw_logprobs":
            return f"logprobs_mode={self.logprobs_mode}"
        if wanted is not None and not 0 <= wanted < logits.shape[1]:
            return "logprobs of the whole vocabulary"
        if metadata.logprob_token_ids:
            return "logprob_token_ids"
        if holder is not None and holder.has_tracked_requests():
            return "thinking_token_budget"
        if logits.shape != (len(requests), requests.vocabulary):
            return f"logits of shape {list(logits.shape)} for {len(requests)} x {requests.vocabulary}"
        return None

    def _current(self, requests: Requests, device: torch.device) -> Rows | None:
        """Rows as of this step, built anew only when the batch has changed; None for values out of range."""
        if self._rows is not None and self._built_for == requests.version:
            positions = torch.from_numpy(requests.positions())
            if device.type == "cuda":
                positions = positions.pin_memory()
            self._rows.position.copy_(positions, non_blocking=True)
            return self._rows
        try:
            self._rows = requests.parameters(device)
        except ValueError:
            self._rows = None
        self._built_for = requests.version
        return self._rows

    def _edited(self, logits: torch.Tensor, metadata: Any, keep: bool) -> torch.Tensor:
        """`logits` after masks, bad words and biases, in float32; themselves where there are none.

        `keep`: `logits` are needed as they were.
        """
        active = [p for p in metadata.logitsprocs.non_argmax_invariant if edits(p)]
        if metadata.allowed_token_ids_mask is None and not metadata.bad_words_token_ids and not active:
            return logits
        steps = dataclasses.replace(metadata, no_penalties=True, thinking_budget_state_holder=None)
        edited: torch.Tensor = self.apply_logits_processors(logits.to(torch.float32, copy=keep), steps, False)
        return edited

    def _say(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            log.warning("Hearth's sampler does not cover %s: such batches go to vLLM's own sampler", reason)


def requests_of(metadata: Any) -> Requests | None:
    """The rows of the batch that `metadata` describes; None for vLLM's warm-up."""
    return next((p for p in metadata.logitsprocs.argmax_invariant if type(p) is Requests), None)


def edits(processor: Any) -> bool:
    """Whether a processor changes any logit of this batch; one that vLLM does not bring always may."""
    if type(processor) is LogitBiasLogitsProcessor:
        return bool(processor.biases)
    if type(processor) is MinTokensLogitsProcessor:
        return bool(processor.min_toks)
    return True


def as_vllm(drawn: Sampled) -> Any:
    """Logprobs in vLLM's layout: the drawn token's first, then the top ones."""
    if drawn.logprob is None or drawn.rank is None or drawn.top_tokens is None or drawn.top_logprobs is None:
        raise ValueError("sampled without logprobs")
    return LogprobsTensors(
        torch.cat((drawn.tokens.to(torch.int32).unsqueeze(1), drawn.top_tokens), dim=1),
        torch.cat((drawn.logprob.unsqueeze(1), drawn.top_logprobs), dim=1),
        drawn.rank,
    )


class Rewindable(torch.Generator):
    """A CPU generator that a draw can be taken back from.

    Of a prompt that is read in several steps vLLM throws the early tokens away and sets the generator of a seeded
    request back by one draw. A plain CPU generator has no offset and raises, which ends the engine (vLLM 0.32).
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: torch.Tensor | None = None
        """State before this step's draw; None when there is none."""

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> torch.Generator:
        if self.before is not None:
            self.set_state(self.before)
        return self


def took_draw(generators: dict[int, torch.Generator]) -> None:
    """Leaves vLLM's generators so that it may take back one draw from each, though none was made."""
    for row, generator in generators.items():
        if generator.device.type == "cpu":
            _rewindable(generators, row).before = None
        else:
            generator.set_offset(generator.get_offset() + 4)


def will_draw(generators: dict[int, torch.Generator]) -> None:
    """Prepares vLLM's generators for a draw by vLLM that it may take back."""
    for row, generator in generators.items():
        if generator.device.type == "cpu":
            _rewindable(generators, row).before = generator.get_state()


def _rewindable(generators: dict[int, torch.Generator], row: int) -> Rewindable:
    generator = generators[row]
    if not isinstance(generator, Rewindable):
        state, generators[row] = generator.get_state(), (generator := Rewindable())
        generator.set_state(state)
    return generator

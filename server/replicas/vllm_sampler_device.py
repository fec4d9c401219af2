"""Hearth's sampler in vLLM's newer GPU model runner, whose request state lives on the device.

Biases, masks, min-tokens and bad words stay vLLM's own kernels; penalties, temperature, min-p, top-k, top-p and the
draw are `kernels.sampling`. The host never waits for the device. What it does not cover goes to vLLM's own sampler,
and the log says so once.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from vllm.v1.worker.gpu.buffer_utils import UvaBackedTensor
from vllm.v1.worker.gpu.sample.bad_words import BadWordsState
from vllm.v1.worker.gpu.sample.logit_bias import LogitBiasState
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext
from vllm.v1.worker.gpu.sample.penalties import PenaltiesState
from vllm.v1.worker.gpu.sample.sampler import Sampler

from kernels.sampling import Rows, Seen, sample
from kernels.sampling.rows import VOCABULARY_LIMIT
from server.replicas.vllm_sampler_requests import rows_of
from server.replicas.vllm_sampler_warm import compile_for

log = logging.getLogger("vllm.hearth")

FLOATS = ("temperature", "inverse_temperature", "top_p", "min_p", "log_min_p", "repetition", "frequency", "presence")
PROCESSORS = [LogitBiasState, PenaltiesState, BadWordsState]
PROCESSED = ("processed_logprobs", "processed_logits")
GREEDY_BELOW = 1e-5


class DeviceRows:
    """The parameters of every request slot, one column a slot, so that one gather makes a batch's rows."""

    def __init__(self, slots: int, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.table = UvaBackedTensor((len(FLOATS) + 1, slots), dtype=torch.int32)
        self.taken = np.ones(slots, dtype=np.bool_)
        """False: the slot's parameters are out of the sampler's range."""
        self._floats = self.table.np.view(np.float32)
        self._floats[FLOATS.index("top_p")] = self._floats[FLOATS.index("repetition")] = 1.0
        self._floats[FLOATS.index("inverse_temperature")] = 1.0
        self._floats[FLOATS.index("log_min_p")] = -np.inf
        self.flush()

    def put(self, slot: int, params: Any) -> None:
        """Keeps the `SamplingParams` of a new request."""
        zero = np.zeros(1, dtype=np.int64)
        try:
            row = rows_of([params], zero, zero, self.vocabulary)
        except ValueError:
            self.taken[slot] = False
            return
        self.taken[slot] = True
        for line, name in enumerate(FLOATS):
            self._floats[line, slot] = getattr(row, name).item()
        self.table.np[len(FLOATS), slot] = row.top_k.item()

    def flush(self) -> None:
        """Makes what was put visible to the device from the next kernel on."""
        self.table.copy_to_uva()

    def rows(self, index: torch.Tensor, slots: NDArray[np.int64], seed: torch.Tensor, position: torch.Tensor) -> Rows:
        """Rows of the batch whose slots are `index` [B] on the device and `slots` [B] on the host."""
        columns = self.table.gpu.index_select(1, index)
        values = {name: columns[line].view(torch.float32) for line, name in enumerate(FLOATS)}
        host = {name: self._floats[line, slots] for line, name in enumerate(FLOATS)}
        random = host["temperature"] >= GREEDY_BELOW
        k = self.table.np[len(FLOATS), slots]
        top_k = random & (k > 0) & (k < self.vocabulary)
        min_p = random & (host["min_p"] > 0)
        penalty = (host["repetition"] != 1) | (host["frequency"] != 0) | (host["presence"] != 0)
        return Rows(
            **values,
            top_k=columns[len(FLOATS)],
            seed=seed,
            position=position,
            any_greedy=not bool(random.all()),
            any_random=bool(random.any()),
            any_top_k=bool(top_k.any()),
            any_top_p=bool((random & (host["top_p"] < 1)).any()),
            any_min_p=bool(min_p.any()),
            any_whole=bool((random & ~top_k & ~min_p).any()),
            any_penalty=bool(penalty.any()),
            vocabulary=self.vocabulary,
        )


class DeviceSampler(Sampler):  # type: ignore[misc]  # vLLM has no types for mypy here
    """vLLM's `Sampler`, drawn by `kernels.sampling`."""

    def __init__(self, vllm_config: Any, max_num_reqs: int, vocab_size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, max_num_reqs, vocab_size, *args, **kwargs)
        self._said: set[str] = set()
        self._table = DeviceRows(max_num_reqs, vocab_size)
        self._never = self._uncovered_engine(vllm_config)
        if self._never:
            log.warning("sampling: vLLM's own sampler, as Hearth's does not cover %s", self._never)
            self._said.add(self._never)
        else:
            log.info("sampling: Hearth's kernels")

    def _uncovered_engine(self, vllm_config: Any) -> str | None:
        """Why this engine keeps vLLM's own sampler; None when it does not."""
        if vllm_config.speculative_config is not None:
            return "speculative decoding"
        if [type(processor) for processor in self.logits_processors] != PROCESSORS:
            return "custom logits processors"
        if self._table.vocabulary > VOCABULARY_LIMIT:
            return f"vocabularies of more than {VOCABULARY_LIMIT} tokens"
        if self.return_sampling_mask:
            return "return_sampling_mask"
        return "use_fp64_gumbel" if self.use_fp64_gumbel else None

    def add_request(self, req_idx: int, sampling_params: Any) -> None:
        """As vLLM's."""
        super().add_request(req_idx, sampling_params)
        self._table.put(req_idx, sampling_params)

    def apply_staged_writes(self) -> None:
        """As vLLM's."""
        super().apply_staged_writes()
        self._table.flush()

    def sample(
        self,
        logits: torch.Tensor,
        expanded_idx_mapping: torch.Tensor,
        idx_mapping: torch.Tensor,
        idx_mapping_np: NDArray[np.int64],
        pos: torch.Tensor,
        input_ids: torch.Tensor,
        expanded_local_pos: torch.Tensor,
        seq_lens_upper_bound_np: NDArray[np.int32],
        return_logprobs: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(a token per row of `logits` [B, V], the logits after masks and biases)."""
        reason = self._never or self._uncovered(idx_mapping_np, logits, return_logprobs)
        if not self.req_states.req_id_to_index and not self._never:
            compile_for(logits)  # vLLM's warm-up
        if reason is not None:
            self._say(reason)
            tokens, processed = super().sample(
                logits, expanded_idx_mapping, idx_mapping, idx_mapping_np, pos, input_ids, expanded_local_pos,
                seq_lens_upper_bound_np, return_logprobs,
            )  # fmt: skip
            return tokens, processed
        context = LogitsContext(
            expanded_idx_mapping=expanded_idx_mapping,
            idx_mapping=idx_mapping,
            idx_mapping_np=idx_mapping_np,
            expanded_local_pos=expanded_local_pos,
            input_ids=input_ids,
            pos=pos,
            seq_lens_upper_bound_np=seq_lens_upper_bound_np,
        )
        edited = self._edited(logits, context)
        return sample(edited, *self._rows(context)).tokens, edited

    def _uncovered(self, slots: NDArray[np.int64], logits: torch.Tensor, return_logprobs: bool) -> str | None:
        """Why this batch is for vLLM's own sampler; None when it is not."""
        thinking = self.thinking_budget_state
        if return_logprobs and self.logprobs_mode in PROCESSED:
            return f"logprobs_mode={self.logprobs_mode}"
        if thinking.enabled and thinking.use_thinking_budget[slots].any():
            return "thinking_token_budget"
        if not self._table.taken[slots].all():
            return "a parameter out of the kernels' range"
        if logits.shape != (len(slots), self._table.vocabulary):
            return f"logits of shape {list(logits.shape)} for {len(slots)} x {self._table.vocabulary}"
        return None

    def _edited(self, logits: torch.Tensor, context: Any) -> torch.Tensor:
        """`logits` after biases, masks and bad words, in a float32 copy; themselves where there are none."""
        slots = context.idx_mapping_np
        bias, _, words = self.logits_processors
        if not bias.use_logit_bias[slots].any() and not words.num_bad_words.np[slots].any():
            return logits
        edited = torch.empty_like(logits, dtype=torch.float32).copy_(logits)
        for processor in (bias, words):
            edited = processor.apply(edited, context)
        return edited

    def _rows(self, context: Any) -> tuple[Rows, Seen | None]:
        """The batch's parameters and what its requests have seen.

        A position is the number of tokens drawn so far, as in the older runner, so that a seed means the same in both.
        """
        index = context.expanded_idx_mapping
        seed = self.sampling_states.seeds.gpu.index_select(0, index)
        position = context.pos + 1 - self.req_states.prompt_len.gpu.index_select(0, index)
        rows = self._table.rows(index, context.idx_mapping_np, seed, position)
        if not rows.any_penalty:
            return rows, None
        state = self.penalties_state
        return rows, Seen(index.to(torch.int32), state.prompt_bin_mask, state.output_bin_counts)

    def _say(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            log.warning("Hearth's sampler does not cover %s: such batches go to vLLM's own sampler", reason)

"""What the sampler's adapters take for granted about vLLM's insides, checked before anything is replaced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

OLDER, NEWER = "vllm.v1.worker.gpu_model_runner", "vllm.v1.worker.gpu.model_runner"
"""The modules that construct the sampler: the older runner (the CPU's is a subclass of it) and the newer one."""


def missing(runner: ModuleType) -> list[str]:
    """What is not as the adapters were written for (vLLM 0.32); empty when all is."""
    return list(PINS[runner.__name__](runner))


def _older(runner: ModuleType) -> Iterator[str]:
    from vllm.v1.outputs import LogprobsTensors
    from vllm.v1.sample import logits_processor
    from vllm.v1.sample.logits_processor.interface import BatchUpdate
    from vllm.v1.sample.metadata import SamplingMetadata
    from vllm.v1.sample.sampler import Sampler

    yield from _same(runner, "Sampler", Sampler)
    yield from _same(runner, "build_logitsprocs", logits_processor.build_logitsprocs)
    yield from _parameters(logits_processor.build_logitsprocs, "vllm_config device is_pin_memory is_pooling_model")
    yield from _parameters(Sampler.__init__, "self logprobs_mode use_fp64_gumbel")
    yield from _parameters(
        Sampler.forward, "self logits sampling_metadata predict_bonus_token logprobs_mode_override"
    )
    yield from _parameters(Sampler.apply_logits_processors, "self logits sampling_metadata predict_bonus_token")
    yield from _parameters(Sampler.compute_logprobs, "logits")
    yield from _parameters(Sampler.gather_logprobs, "logprobs num_logprobs token_ids")
    yield from _fields(
        SamplingMetadata,
        "generators max_num_logprobs no_penalties allowed_token_ids_mask bad_words_token_ids logitsprocs "
        "logprob_token_ids thinking_budget_state_holder",
        SamplingMetadata.__dataclass_fields__,
    )
    yield from _fields(BatchUpdate, "removed moved added", BatchUpdate.__dataclass_fields__)
    yield from _fields(
        LogprobsTensors, "logprob_token_ids logprobs selected_token_ranks", dict.fromkeys(LogprobsTensors._fields)
    )
    yield from _sets(logits_processor.LogitBiasLogitsProcessor, "biases")
    yield from _sets(logits_processor.MinTokensLogitsProcessor, "min_toks")
    yield from _sets(logits_processor.LogitsProcessors, "argmax_invariant non_argmax_invariant")


def _newer(runner: ModuleType) -> Iterator[str]:
    from vllm.v1.watermarking import create_watermarker
    from vllm.v1.worker.gpu.sample.bad_words import BadWordsState
    from vllm.v1.worker.gpu.sample.logit_bias import LogitBiasState
    from vllm.v1.worker.gpu.sample.penalties import PenaltiesState
    from vllm.v1.worker.gpu.sample.sampler import Sampler
    from vllm.v1.worker.gpu.sample.states import SamplingStates
    from vllm.v1.worker.gpu.sample.thinking_budget import ThinkingBudgetState
    from vllm.v1.worker.gpu.states import RequestState

    yield from _same(runner, "Sampler", Sampler)
    yield from _same(runner, "create_watermarker", create_watermarker)
    yield from _parameters(Sampler.__init__, "self vllm_config max_num_reqs vocab_size")
    yield from _parameters(Sampler.add_request, "self req_idx sampling_params")
    yield from _parameters(Sampler.apply_staged_writes, "self")
    yield from _parameters(
        Sampler.sample,
        "self logits expanded_idx_mapping idx_mapping idx_mapping_np pos input_ids expanded_local_pos "
        "seq_lens_upper_bound_np return_logprobs",
    )
    yield from _sets(
        Sampler,
        "req_states sampling_states penalties_state logits_processors thinking_budget_state logprobs_mode "
        "use_fp64_gumbel return_sampling_mask",
    )
    yield from _sets(SamplingStates, "seeds")
    yield from _sets(PenaltiesState, "prompt_bin_mask output_bin_counts")
    yield from _sets(LogitBiasState, "use_logit_bias")
    yield from _sets(BadWordsState, "num_bad_words")
    yield from _sets(ThinkingBudgetState, "enabled use_thinking_budget")
    yield from _sets(RequestState, "prompt_len req_id_to_index")


PINS: Mapping[str, Callable[[ModuleType], Iterator[str]]] = {OLDER: _older, NEWER: _newer}


def _same(module: ModuleType, name: str, expected: Any) -> Iterator[str]:
    if getattr(module, name, None) is not expected:
        yield f"{module.__name__}.{name}"


def _parameters(function: Callable[..., Any], first: str) -> Iterator[str]:
    """Whether the function's first parameters are these."""
    names = first.split()
    if list(inspect.signature(function).parameters)[: len(names)] != names:
        yield f"parameters of {function.__qualname__}"


def _fields(owner: type, names: str, present: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{owner.__name__}.{name}" for name in names.split() if name not in present)


def _sets(owner: type, names: str) -> Iterator[str]:
    """Whether the constructor sets, or at least names, these attributes."""
    named = inspect.unwrap(owner.__init__).__code__.co_names  # type: ignore[misc]  # of that very class
    yield from (f"{owner.__name__}.{name}" for name in names.split() if name not in named)

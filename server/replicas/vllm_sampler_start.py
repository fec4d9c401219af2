"""The start of an engine with vLLM's older runner: follows the batch from here on and compiles the kernels."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from vllm.v1.sample.logits_processor import MinPLogitsProcessor

from kernels.sampling.rows import VOCABULARY_LIMIT
from server.replicas.vllm_sampler_requests import Requests

log = logging.getLogger("vllm.hearth")


def with_requests(build: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM's `build_logitsprocs`, with `Requests` among what it builds where the sampler can be used."""

    @functools.wraps(build)
    def built(
        vllm_config: Any, device: torch.device, is_pin_memory: bool, is_pooling_model: bool, *args: Any, **kwargs: Any
    ) -> Any:
        processors = build(vllm_config, device, is_pin_memory, is_pooling_model, *args, **kwargs)
        if is_pooling_model:
            return processors
        if reason := uncovered(vllm_config, processors):
            log.warning("sampling: vLLM's own sampler, as Hearth's does not cover %s", reason)
            return processors
        model = vllm_config.model_config
        processors.argmax_invariant.append(Requests(model.seed, model.get_vocab_size()))
        started = time.monotonic()
        if device.type == "cpu":
            from kernels.sampling import cpu

            cpu.warm()
        log.info("sampling: Hearth's kernels, ready after %.1f s", time.monotonic() - started)
        return processors

    return built


def uncovered(vllm_config: Any, processors: Any) -> str | None:
    """Why no batch of this engine can be Hearth's; None when they can."""
    if vllm_config.speculative_config is not None:
        return "speculative decoding"
    if any(type(p) is not MinPLogitsProcessor for p in processors.argmax_invariant):
        return "argmax-invariant custom logits processors"
    if vllm_config.model_config.get_vocab_size() > VOCABULARY_LIMIT:
        return f"vocabularies of more than {VOCABULARY_LIMIT} tokens"
    return "use_fp64_gumbel" if vllm_config.model_config.use_fp64_gumbel else None

"""The environment of replicas: what all have, and what a variant adds. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Mapping

from models.catalogue import resolve
from server.external.options import MODEL as EXTERNAL
from server.prefork.imported import NEED, Stage
from server.replicas.vllm_plugin import SAMPLER
from server.spec import ENGINE_TASKS, ContainerSpec, VariantSpec

ENVIRON = {
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_MAX_STOP_STRINGS": "16",
}
"""Environment of every replica; a variant's own `env` goes over it."""


def variables(variant: VariantSpec, *, sampler: bool) -> Mapping[str, str]:
    return {**ENVIRON, SAMPLER: str(int(sampler)), NEED: needs(variant), **variant.env}


def needs(variant: VariantSpec) -> Stage:
    """Whether a replica of `variant` will start vLLM, as far as can be told before its model is here."""
    return "engine" if any(map(_needs_engine, variant.containers or (variant,))) else "replica"


def _needs_engine(model: VariantSpec | ContainerSpec) -> bool:
    if model.many is not None or model.model == EXTERNAL:
        return False
    if model.task is not None:
        return model.task in ENGINE_TASKS
    try:
        found = resolve(model.model)
    except ValueError:
        return False
    if found.local and model.env.get("SAGEMAKER_PROGRAM"):
        return False
    return found.task in ENGINE_TASKS if found.task is not None else not found.local

"""What a model container's environment says, as AWS's own images read it.

`SM_VLLM_*` (vLLM's image), `OPTION_*` (LMI), `HF_*` (Hugging Face's images) and the variables of
text-generation-inference become Hearth's tasks and engine options.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from server.dialects.documents import parse_value
from server.errors import BadRequest
from server.spec import Task

MAX_DEPTH = 16
"""Of JSON in a variable."""
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
VLLM = "SM_VLLM_"
LMI = "OPTION_"
CACHE = "HEARTH_CACHE"

TASKS: Mapping[str, Task] = {
    "text-generation": "generate",
    "image-text-to-text": "generate",
    "feature-extraction": "embed",
    "sentence-similarity": "embed",
    "sentence-embeddings": "embed",
    "text-classification": "classify",
    "text-ranking": "rerank",
    "sentence-ranking": "rerank",
    "image-classification": "image-classification",
    "object-detection": "object-detection",
}
"""Hugging Face's task names as Hearth's."""

LMI_NAMES: Mapping[str, str] = {
    "tensor-parallel-degree": "tensor-parallel-size",
    "pipeline-parallel-degree": "pipeline-parallel-size",
    "max-rolling-batch-size": "max-num-seqs",
    "max-rolling-batch-prefill-tokens": "max-num-batched-tokens",
    "quantize": "quantization",
}
"""LMI's names of engine options, where vLLM's differ."""
LMI_DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
LMI_OWN = frozenset(
    "engine rolling-batch entrypoint entry-point async-mode mpi-mode enable-streaming output-formatter "
    "model-id task model-loading-timeout".split()
)
"""LMI options about its own serving stack, which is not here, and those that are read elsewhere."""
READ_ELSEWHERE = frozenset(("model", "served-model-name", "host", "port"))
"""`SM_VLLM_*` options that are no engine options here."""
TGI_NAMES: Mapping[str, str] = {
    "MAX_TOTAL_TOKENS": "max-model-len",
    "MAX_BATCH_PREFILL_TOKENS": "max-num-batched-tokens",
    "MAX_BATCH_SIZE": "max-num-seqs",
    "HF_MODEL_QUANTIZE": "quantization",
    "QUANTIZE": "quantization",
    "HF_MODEL_REVISION": "revision",
    "REVISION": "revision",
    "DTYPE": "dtype",
}
"""text-generation-inference's variables as engine options."""


def task(environ: Mapping[str, str]) -> Task | None:
    """None when the model's own configuration is to say it. Raises BadRequest for a task nobody serves."""
    for key in ("HF_TASK", "OPTION_TASK"):
        if name := environ.get(key):
            if name in TASKS:
                return TASKS[name]
            if key == "HF_TASK":
                raise BadRequest(f"HF_TASK: {name!r} is not served; known are {', '.join(sorted(TASKS))}")
    return None


def engine_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Engine options by vLLM's long names. `SM_VLLM_*` goes before `OPTION_*`; ``false`` leaves a flag out."""
    found: dict[str, Any] = {}
    for key, text in sorted(environ.items()):
        if key.startswith(LMI) and (option := _option(key, LMI)) not in LMI_OWN:
            value = _value(text)
            found[LMI_NAMES.get(option, option)] = LMI_DTYPES.get(str(value), value) if option == "dtype" else value
    for key, text in sorted(environ.items()):
        if key.startswith(VLLM) and (option := _option(key, VLLM)) not in READ_ELSEWHERE:
            found[option] = _value(text)
    if found.get("tensor-parallel-size") == "max":  # LMI's word for every card
        found["tensor-parallel-size"] = max(1, int(gpus(environ, {})))
    return {name: value for name, value in found.items() if value is not False}


def tgi_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """text-generation-inference's settings that the engine has too."""
    return {option: _value(environ[key]) for key, option in TGI_NAMES.items() if environ.get(key)}


def consumed(key: str) -> bool:
    """Whether a variable is about the model or the engine, and so is not handed on to the replica."""
    named = (*TGI_NAMES, "HF_MODEL_ID", "HF_TASK", "SM_MODEL_ID", "SM_NUM_GPUS")
    return key.startswith((VLLM, LMI, CACHE)) or key in named


def gpus(environ: Mapping[str, str], options: Mapping[str, Any]) -> float:
    """Cards for the replica: as many as it is split over; one where the container was given cards at all."""
    if text := environ.get("SM_NUM_GPUS"):
        if not text.isdecimal():
            raise BadRequest(f"SM_NUM_GPUS: expected a number, got {text!r}")
        return float(text)
    if environ.get("NVIDIA_VISIBLE_DEVICES", "void") in ("", "void", "none"):
        return 0.0
    return float(options.get("tensor-parallel-size", 1)) * float(options.get("pipeline-parallel-size", 1))


def _option(key: str, prefix: str) -> str:
    return key.removeprefix(prefix).lower().replace("_", "-")


def _value(text: str) -> Any:
    """Numbers, true/false and JSON keep their type; an empty value is a bare flag."""
    if not text:
        return True
    if text[0] in "[{":
        try:
            return parse_value(text.encode(), MAX_DEPTH)
        except BadRequest:
            return text
    # One word alone: YAML's aliases make a short text mean more values than there is memory.
    value = yaml.safe_load(text) if _WORD.fullmatch(text) else text
    return value if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) else text

"""Hearth as a SageMaker container: what the platform and its users say through the environment, as settings.

`docker run IMAGE serve` answers `/ping` and `/invocations` on 8080 for one model. The model and its engine
options come from the variables that AWS's own images read: `SM_VLLM_*` (vLLM's image), `HF_*` (Hugging Face's)
and `OPTION_*` (LMI). `HEARTH_*` sets everything else, as it does outside a container.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from server.settings import Settings, SettingsError, load
from server.spec import EndpointSpec, Resources, Scaling, Task, VariantSpec

MODEL_DIR = Path("/opt/ml/model")
"""Where SageMaker unpacks a model's artifacts."""
VLLM = "SM_VLLM_"
LMI = "OPTION_"
NAMES = ("SAGEMAKER_ENDPOINT_NAME", "SM_VLLM_SERVED_MODEL_NAME")
"""Variables that may name the endpoint; `model` when none does."""

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


def settings_from_container(environ: Mapping[str, str], model_dir: Path = MODEL_DIR) -> Settings:
    """One endpoint behind the container contract. Raises SettingsError.

    Anonymous, because the platform authenticates and nothing else reaches the container.
    """
    name = next((environ[key] for key in NAMES if environ.get(key)), "model")
    options = engine_options(environ)
    try:
        variant = VariantSpec(
            model=model(environ, model_dir),
            task=task(environ),
            engine=options,
            resources=Resources(num_gpus=gpus(environ, options)),
            scaling=Scaling(),
        )
        endpoint = EndpointSpec(name=name, variants=(variant,))
    except ValueError as error:
        raise SettingsError(f"environment: {error}") from None
    return load(
        None, environ, host="0.0.0.0", port=environ.get("SAGEMAKER_BIND_TO_PORT", "8080"), allow_anonymous=True,
        default_endpoint=name, endpoints=(endpoint,), start_timeout_s=environ.get("OPTION_MODEL_LOADING_TIMEOUT"),
    )  # fmt: skip


def model(environ: Mapping[str, str], model_dir: Path) -> str:
    """`SM_VLLM_MODEL` or `SM_MODEL_ID`, else the platform's model folder, else a Hugging Face id."""
    chosen = environ.get("SM_VLLM_MODEL") or environ.get("SM_MODEL_ID")
    if not chosen and model_dir.is_dir() and any(model_dir.iterdir()):
        chosen = str(model_dir)
    chosen = chosen or environ.get("HF_MODEL_ID") or environ.get("OPTION_MODEL_ID")
    if not chosen:
        raise SettingsError(f"No model: {model_dir} is empty and none of SM_VLLM_MODEL, HF_MODEL_ID is set.")
    if chosen.startswith("s3://"):
        raise SettingsError(f"{chosen}: models on S3 come through ModelDataSource, which fills {model_dir}.")
    return chosen


def task(environ: Mapping[str, str]) -> Task | None:
    """None when the model's own configuration is to say it."""
    for key in ("HF_TASK", "OPTION_TASK"):
        if name := environ.get(key):
            if name in TASKS:
                return TASKS[name]
            if key == "HF_TASK":
                raise SettingsError(f"HF_TASK: {name!r} is not served; known are {', '.join(sorted(TASKS))}")
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


def gpus(environ: Mapping[str, str], options: Mapping[str, Any]) -> float:
    """Cards for the replica: as many as it is split over; one where the container was given cards at all."""
    if text := environ.get("SM_NUM_GPUS"):
        if not text.isdecimal():
            raise SettingsError(f"SM_NUM_GPUS: expected a number, got {text!r}")
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
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, int | float | dict | list) else text

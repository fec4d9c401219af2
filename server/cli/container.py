"""Hearth as a SageMaker container: what the platform and its users say through the environment, as settings.

`docker run IMAGE serve` answers `/ping` and `/invocations` on 8080 for one model. The model and its engine
options come from the variables that AWS's own images read: `SM_VLLM_*` (vLLM's image), `HF_*` (Hugging Face's)
and `OPTION_*` (LMI). `HEARTH_*` sets everything else, as it does outside a container.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from server.control.environment import engine_options, gpus, task
from server.errors import BadRequest
from server.settings import Settings, SettingsError, load
from server.spec import EndpointSpec, Resources, Scaling, VariantSpec

MODEL_DIR = Path("/opt/ml/model")
"""Where SageMaker unpacks a model's artifacts."""
NAMES = ("SAGEMAKER_ENDPOINT_NAME", "SM_VLLM_SERVED_MODEL_NAME")
"""Variables that may name the endpoint; `model` when none does."""


def settings_from_container(environ: Mapping[str, str], model_dir: Path = MODEL_DIR) -> Settings:
    """One endpoint behind the container contract. Raises SettingsError.

    Anonymous, because the platform authenticates and nothing else reaches the container.
    """
    name = next((environ[key] for key in NAMES if environ.get(key)), "model")
    try:
        options = engine_options(environ)
        variant = VariantSpec(
            model=model(environ, model_dir),
            task=task(environ),
            engine=options,
            resources=Resources(num_gpus=gpus(environ, options)),
            scaling=Scaling(),
        )
        endpoint = EndpointSpec(name=name, variants=(variant,))
    except (ValueError, BadRequest) as error:
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

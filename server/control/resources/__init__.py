"""One module per resource. Importing them registers every operation that is built."""

from server.control.resources import (
    endpoint,
    endpoint_config,
    inference_component,
    inference_experiment,
    model,
    model_card,
    model_package,
    model_package_group,
    search,
    tags,
)
from server.control.sagemaker import SAGEMAKER

__all__ = [
    "SAGEMAKER",
    "endpoint",
    "endpoint_config",
    "inference_component",
    "inference_experiment",
    "model",
    "model_card",
    "model_package",
    "model_package_group",
    "search",
    "tags",
]

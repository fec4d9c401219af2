"""One module per resource. Importing them registers every operation that is built."""

from server.control.operations import built
from server.control.resources import (
    endpoint,
    endpoint_config,
    model,
    model_card,
    model_package,
    model_package_group,
    search,
    tags,
)

__all__ = [
    "built",
    "endpoint",
    "endpoint_config",
    "model",
    "model_card",
    "model_package",
    "model_package_group",
    "search",
    "tags",
]

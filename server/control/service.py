"""SageMaker's operations, shapes and errors, read from the service model that ships with botocore."""

from __future__ import annotations

from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

MODEL: Any = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")

TARGET_PREFIX: str = MODEL.metadata["targetPrefix"]
OPERATIONS: frozenset[str] = frozenset(MODEL.operation_names)


@cache
def operation(name: str) -> Any:
    """An operation's model; `name` is one of OPERATIONS."""
    return MODEL.operation_model(name)


@cache
def errors(name: str) -> frozenset[str]:
    """Codes of the errors that the model lists for an operation."""
    return frozenset(str(shape.name) for shape in operation(name).error_shapes)


def members(name: str) -> frozenset[str]:
    """Names of an operation's input members."""
    shape = operation(name).input_shape
    return frozenset(shape.members) if shape is not None else frozenset()

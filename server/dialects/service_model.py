"""SageMaker Runtime's wire shapes, read from the service model that ships with botocore."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from server.errors import BadRequest

MODEL: Any = ServiceModel(Loader().load_service_model("sagemaker-runtime", "service-2"), "sagemaker-runtime")

INVOKE: Any = MODEL.operation_model("InvokeEndpoint")
INVOKE_STREAM: Any = MODEL.operation_model("InvokeEndpointWithResponseStream")

UNSUPPORTED = ("EnableExplanations",)
"""Inputs that choose between things an endpoint of ours has only one of, or none."""


def error_status(code: str) -> int | None:
    """HTTP status of an error code; None when the model does not fix one."""
    if code not in MODEL.shape_names:
        return None
    status = MODEL.shape_for(code).metadata.get("error", {}).get("httpStatusCode")
    return int(status) if status is not None else None


def header_name(operation: Any, member: str, *, output: bool = True) -> str:
    """Wire name of a member that travels as a header, e.g. ``x-Amzn-Invoked-Production-Variant``."""
    shape = operation.output_shape if output else operation.input_shape
    return str(shape.members[member].serialization["name"])


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """What the model allows in one request header."""

    member: str
    name: str
    low: int
    high: int
    pattern: re.Pattern[str] | None

    def check(self, value: str) -> None:
        if not value.isascii():
            raise BadRequest(f"{self.name} must be ASCII", field=self.member)
        if not self.low <= len(value) <= self.high:
            raise BadRequest(
                f"{self.name} has {len(value)} characters; {self.low} to {self.high} are allowed", field=self.member
            )
        if self.pattern is not None and not self.pattern.fullmatch(value):
            raise BadRequest(f"{self.name} does not match {self.pattern.pattern}", field=self.member)
        if self.member in UNSUPPORTED:
            raise BadRequest(f"this endpoint does not support {self.name}", field=self.member)


def _python_pattern(java: str | None) -> re.Pattern[str] | None:
    if java is None:
        return None
    for theirs, ours in ((r"[\p{Print}]", r"[\x20-\x7e]"), (r"\p{ASCII}", r"[\x00-\x7f]"), (r"\z", r"\Z")):
        java = java.replace(theirs, ours)
    return re.compile(java)


def _header_rules(operation: Any) -> Mapping[bytes, HeaderRule]:
    rules = {}
    for member, shape in operation.input_shape.members.items():
        place = shape.serialization
        if place.get("location") == "header" and member not in ("ContentType", "Accept"):
            low, high = shape.metadata.get("min", 0), shape.metadata.get("max", 1024)
            pattern = _python_pattern(shape.metadata.get("pattern"))
            rules[place["name"].lower().encode()] = HeaderRule(member, place["name"], low, high, pattern)
    return rules


HEADER_RULES: Mapping[bytes, HeaderRule] = {**_header_rules(INVOKE_STREAM), **_header_rules(INVOKE)}
"""By header name in lower case, as ASGI has it."""

"""A stored document as an output shape: every answer and every summary of a list is made here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def project(shape: Any, value: Any) -> Any:
    """The part of `value` that `shape` has a place for; what is absent or None stays absent.

    A datetime becomes seconds since 1970.
    """
    if shape.type_name == "structure":
        present = ((name, member) for name, member in shape.members.items() if value.get(name) is not None)
        return {name: project(member, value[name]) for name, member in present}
    if shape.type_name == "list":
        return [project(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: project(shape.value, item) for key, item in value.items()}
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    return value


def answer(shape: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an operation's answer; empty for an operation that answers nothing."""
    return {} if shape is None else dict(project(shape, value))

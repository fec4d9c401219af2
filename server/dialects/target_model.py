"""TargetModel: which of an endpoint's many models an invocation asks."""

from __future__ import annotations

from server.dialects.service_model import INVOKE, header_name
from server.errors import BadRequest

TARGET_MODEL = header_name(INVOKE, "TargetModel", output=False).lower()
FIELD = "TargetModel"
LONGEST_PART = 255
"""Bytes of a file's name."""


def check(given: str | None, holds_many: bool, endpoint: str, request_id: str) -> None:
    """Raises BadRequest where the header's presence does not go with the endpoint, or its value is no name. The
    first two messages are SageMaker's own."""
    if not holds_many and given is not None:
        raise BadRequest(
            f"Endpoint {endpoint} is not a multi-model endpoint and does not support target model header.", field=FIELD
        )
    if holds_many and given is None:
        raise BadRequest(f"Request {request_id} is missing a target model header.", field=FIELD)
    if given is not None:
        named(given)


def named(given: str) -> str:
    """The path below the prefix that `given` means; a slash at its end says no more than the path without it. Raises
    BadRequest for what leads anywhere else."""
    name = given.removesuffix("/")
    for part in name.split("/"):
        if part in ("", ".", "..") or "\\" in part or not part.isprintable() or len(part.encode()) > LONGEST_PART:
            raise BadRequest(
                f"TargetModel {given[:200]!r} is no path of an archive or a folder below the endpoint's prefix: it "
                "must be relative, and no part of it empty, '.', '..' or with a backslash.",
                field=FIELD,
            )
    return name

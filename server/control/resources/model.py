"""Models: containers by image, artifacts and environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.control import containers, images, many
from server.control.kind import Kind, creates, deletes, describes, find
from server.control.listing import lists
from server.control.operations import Context, Request
from server.control.resources.model_package import KIND as PACKAGE
from server.errors import BadRequest
from server.external import options as external

KIND = Kind(name="Model", title="model")


def _check(context: Context, request: Request) -> None:
    if ("PrimaryContainer" in request) == bool(request.get("Containers")):
        raise BadRequest("Exactly one of PrimaryContainer and Containers must be given.", field="primaryContainer")
    for container in containers.declared(request):
        _check_container(container)
    expanded = containers.expanded(request, lambda given: find(context, PACKAGE, given).document)
    containers.check(expanded, containers.mode(request))


def _check_container(container: Mapping[str, Any]) -> None:
    given = container.get("ModelPackageName")
    if (given is None) == ("Image" not in container):
        raise BadRequest("A container needs either Image or ModelPackageName.", field="image")
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise BadRequest("ModelDataUrl and ModelDataSource cannot be given together.", field="modelDataSource")
    many.check(container)
    if images.repository(container.get("Image", "")) == external.IMAGE:
        external.named(container.get("Environment", {}))  # what is wrong here may be a key, not to be written down


creates(KIND, _check)
describes(KIND)
lists(KIND)
deletes(KIND)

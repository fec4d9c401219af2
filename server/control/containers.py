"""The containers of a SageMaker model: which there are, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.control.many import is_many
from server.errors import BadRequest
from server.spec import MOST_CONTAINERS

Document = Mapping[str, Any]

PACKAGE = "ModelPackageName"
HOSTNAME = "ContainerHostname"


def declared(model: Document) -> list[Document]:
    """A model's containers as they were asked for, the primary one first."""
    primary = model.get("PrimaryContainer")
    return [*([primary] if primary else []), *model.get("Containers", ())]


def mode(model: Document) -> str:
    """`Serial` or `Direct`."""
    return str(model.get("InferenceExecutionConfig", {}).get("Mode", "Serial"))


def expanded(model: Document, package: Callable[[str], Document]) -> list[Document]:
    """A model's containers, those of a model package in its place. `package` gives the document of one by its name or
    ARN. Raises BadRequest for a package without containers."""
    found: list[Document] = []
    for container in declared(model):
        if PACKAGE in container:
            found += _packaged(package(container[PACKAGE]), container)
        else:
            found.append(container)
    return found


def named(found: Sequence[Document]) -> list[Document]:
    """Each with a host name: by its position where it was given none."""
    return [{HOSTNAME: f"container-{place}", **each} for place, each in enumerate(found, 1)]


def check(found: Sequence[Document], how: str) -> None:
    """Raises BadRequest for expanded containers that cannot be run together."""
    names = [each[HOSTNAME] for each in found if HOSTNAME in each]
    if len(found) > MOST_CONTAINERS:
        raise BadRequest(f"A model has at most {MOST_CONTAINERS} containers, not {len(found)}.", field="containers")
    if how == "Direct" and len(found) < 2:
        raise BadRequest("InferenceExecutionConfig: Direct needs more than one of Containers.", field="mode")
    if len(found) == 1:
        return
    if len(set(names)) != len(names):
        raise BadRequest(f"ContainerHostname must be unique; got {', '.join(names)}.", field="containerHostname")
    if len(names) < len(found) and (names or how == "Direct"):
        why = "Direct invocation" if how == "Direct" else "An inference pipeline where one has it"
        raise BadRequest(f"{why} needs the ContainerHostname of every container.", field="containerHostname")
    if how == "Serial" and sum(map(is_many, found)) > 1:
        raise BadRequest("More than one container in MultiModel mode is not supported with inference pipeline.")


def _packaged(package: Document, container: Document) -> list[Document]:
    """The containers of a package's inference specification, with what `container` says besides."""
    specification = container.get("InferenceSpecificationName")
    found = package.get("InferenceSpecification", {})
    if specification is not None:
        among = package.get("AdditionalInferenceSpecifications", ())
        found = next((each for each in among if each["Name"] == specification), {})
    inside: Sequence[Document] = found.get("Containers", ())
    if not inside:
        which = f" {specification!r}" if specification else ""
        raise BadRequest(f"the model package has no inference specification{which}")
    over = {HOSTNAME: container[HOSTNAME]} if HOSTNAME in container and len(inside) == 1 else {}
    added = container.get("Environment", {})
    return [{**each, **over, "Environment": {**each.get("Environment", {}), **added}} for each in inside]

"""Inference components as rows: how the parts of a component's document are read, and what is on an endpoint.

A *base* component is a fleet of its own on an endpoint's variant: its document's `fleet` is an `EndpointSpec` with that
one variant, whose rollouts are those of endpoints. An *adapter* has no fleet: the copies of its base load it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from server.errors import BadRequest
from server.spec import EndpointSpec
from server.store.store import Resource, Store

KIND = "InferenceComponent"
BASE = "BaseInferenceComponentName"
Document = Mapping[str, Any]

WANTED = ("Creating", "Updating", "InService")
"""States in which an adapter is to be held."""


def is_base(component: Resource) -> bool:
    return "fleet" in component.document


def base_of(component: Resource) -> str | None:
    """The component whose copies load this one; None for one with copies of its own."""
    return None if is_base(component) else str(component.document["Specification"][BASE])


def fleet(component: Resource) -> EndpointSpec:
    """What a base component runs now."""
    return EndpointSpec.model_validate(component.document["fleet"])


def aim(component: Resource) -> EndpointSpec:
    """What it is to run: what replaces its fleet, while something does."""
    now = fleet(component)
    return now if now.pending is None else now.pending.spec


def copies(spec: EndpointSpec) -> int:
    return spec.variants[0].scaling.min_replicas


def address(resource: Resource) -> tuple[str, str]:
    """Endpoint and component; of an endpoint itself: no component."""
    return (resource.document["EndpointName"], resource.name) if resource.kind == KIND else (resource.name, "")


def as_endpoint(component: Resource) -> Resource:
    """A base component as if it were an endpoint by itself."""
    return replace(component, name=component.document["EndpointName"], document=component.document["fleet"])


def on_endpoint(store: Store, endpoint: str) -> list[Resource]:
    """The components on an endpoint, oldest first."""
    return [each for each in store.find(KIND) if each.document["EndpointName"] == endpoint]


def adapters(store: Store, base: Resource) -> list[Resource]:
    """The adapters on a base component, oldest first."""
    return [each for each in on_endpoint(store, base.document["EndpointName"]) if base_of(each) == base.name]


def check_empty(store: Store, endpoint: Resource) -> None:
    """Raises BadRequest for an endpoint that cannot be deleted, because components are on it. Asked in the transaction
    that has written the endpoint's row, so that none comes meanwhile."""
    if found := on_endpoint(store, endpoint.name):
        names = ", ".join(each.name for each in found)
        raise BadRequest(
            f'Cannot delete endpoint "{endpoint.arn}": it hosts the inference components {names}; delete those first.',
            field="endpointName",
        )


def check_kept(store: Store, endpoint: Resource, spec: EndpointSpec) -> None:
    """Raises BadRequest where `spec` has no place for what is on the endpoint."""
    there = {variant.name for variant in spec.variants if variant.hosts}
    for each in on_endpoint(store, endpoint.name):
        if each.document["VariantName"] not in there:
            raise BadRequest(
                f"Inference component {each.name} is on variant {each.document['VariantName']}; the new configuration "
                "must have that variant, without a ModelName.",
                field="endpointConfigName",
            )


Wanted = dict[str, dict[str, Any]]
"""Adapters that a replica should hold, by name: `url` and `version`."""


def wanted_adapters(components: Iterable[Resource]) -> dict[tuple[str, str], Wanted]:
    """What the replicas of each base are to hold, by its account and name."""
    found: dict[tuple[str, str], Wanted] = {}
    for component in components:
        base = base_of(component)
        if base is not None and component.status in WANTED:
            url = component.document["Specification"]["Container"]["ArtifactUrl"]
            of_base = found.setdefault((component.account, base), {})
            of_base[component.name] = {"url": url, "version": component.generation}
    return found

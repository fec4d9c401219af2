"""From what should be (store) and what is (registry) to the edge's route table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from server.beat import Beat
from server.control.capacity import serverless
from server.control.components import as_endpoint, base_of, copies, fleet, is_base
from server.controller.affinity import affinity
from server.controller.registry import Heard, Registry, ready
from server.controller.rollout import recall
from server.controller.shares import routing, shared
from server.controller.tenants import tenant
from server.edge.routes import Backend, RouteTable, Server, place
from server.spec import EndpointSpec, VariantSpec
from server.store.store import Resource

Owned = Sequence[tuple[Resource, str]]
"""Resources with their accounts, as they are told apart."""


def route_table(
    endpoints: Sequence[Resource],
    registry: Registry,
    default_endpoint: str | None,
    own: str = "",
    tenants: Sequence[str] = (),
    components: Sequence[Resource] = (),
) -> RouteTable:
    """Routes to every ready replica of every endpoint and inference component that is not being deleted. `tenants` are
    the accounts beside the `own` one whose callers are told apart."""
    found = [(resource, tenant(resource.account, own)) for resource in endpoints if resource.status != "Deleting"]
    parts = [(each, tenant(each.account, own)) for each in components if each.status != "Deleting"]
    backends = tuple(
        replace(backend, account=account)
        for resource, account in found
        for backend in _backends(resource, registry.within(account).on(""))
    )
    backends += tuple(
        replace(backend, account=account, component=part.name)
        for part, account in parts
        if is_base(part) and (copies(fleet(part)) or fleet(part).pending is not None)
        for backend in _backends(as_endpoint(part), registry.within(account).on(part.name))
    )
    bounds = {place(account, resource.name): _concurrency(resource) for resource, account in found}
    concurrency = {name: most for name, most in bounds.items() if most is not None}
    return RouteTable(backends, default_endpoint, tuple(tenants), own, concurrency, _aliases(found, parts))


def _aliases(endpoints: Owned, components: Owned) -> dict[str, str]:
    """Adapters lead to their base. A component is also met by its name alone, where no endpoint has it."""
    names = {place(account, endpoint.name) for endpoint, account in endpoints}
    found: dict[str, str] = {}
    for component, account in components:
        endpoint = component.document["EndpointName"]
        base = base_of(component) or component.name
        where = place(account, endpoint, base)
        if base != component.name:
            found[place(account, endpoint, component.name)] = where
        if (alone := place(account, component.name)) not in names:
            found[alone] = where
    return found


def _concurrency(resource: Resource) -> int | None:
    """What the serverless variants of an endpoint may have in flight together; None where others take part."""
    spec = EndpointSpec.model_validate(resource.document)
    sides = [spec, *([spec.pending.spec] if spec.pending is not None else [])]
    configs = [[serverless(side, variant.name) for variant in side.variants] for side in sides]
    if not all(config is not None for side in configs for config in side):
        return None
    return max(sum(int(config["MaxConcurrency"]) for config in side if config is not None) for side in configs)


def _backends(resource: Resource, heard: Heard) -> list[Backend]:
    spec = EndpointSpec.model_validate(resource.document)
    if spec.pending is None:
        return [_backend(spec, variant, heard) for variant in spec.variants if not variant.hosts]
    return shared(spec, spec.pending, recall(spec.pending, resource.observation).share, heard)


def _backend(spec: EndpointSpec, variant: VariantSpec, heard: Heard) -> Backend:
    servers = tuple(Server(beat.replica_id, beat.host, beat.port) for beat in serving(spec, variant, heard))
    return Backend(
        spec.name, variant.name, variant.weight, servers, variant.limits.max_in_flight, routing=routing(variant),
        affinity=affinity(variant),
    )  # fmt: skip


def serving(spec: EndpointSpec, variant: VariantSpec, heard: Heard) -> list[Beat]:
    """Ready replicas of the wanted revision; before it has one, those of the revision it replaces."""
    wanted = ready(heard.of(spec.name, variant.name, variant.revision))
    if wanted:
        return wanted
    others = ready(heard.of(spec.name, variant.name))
    return [beat for beat in others if beat.revision == others[-1].revision] if others else []

"""From what should be (store) and what is (registry) to the edge's route table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from server.beat import Beat
from server.control.capacity import serverless
from server.controller.registry import Registry, ready
from server.controller.rollout import recall
from server.controller.shares import shared
from server.edge.routes import Backend, RouteTable, Server
from server.spec import EndpointSpec, VariantSpec
from server.store.store import Resource


def route_table(endpoints: Sequence[Resource], registry: Registry, default_endpoint: str | None) -> RouteTable:
    """Routes to every ready replica of every endpoint that is not being deleted."""
    backends = [
        backend
        for resource in endpoints
        if resource.status != "Deleting"
        for backend in _backends(resource, registry)
    ]
    bounds = {resource.name: _concurrency(resource) for resource in endpoints if resource.status != "Deleting"}
    concurrency = {name: most for name, most in bounds.items() if most is not None}
    return RouteTable(tuple(backends), default_endpoint, concurrency)


def _concurrency(resource: Resource) -> int | None:
    """What the serverless variants of an endpoint may have in flight together; None where others take part."""
    spec = EndpointSpec.model_validate(resource.document)
    sides = [spec, *([spec.pending.spec] if spec.pending is not None else [])]
    configs = [[serverless(side, variant.name) for variant in side.variants] for side in sides]
    if not all(config is not None for side in configs for config in side):
        return None
    return max(sum(int(config["MaxConcurrency"]) for config in side if config is not None) for side in configs)


def _backends(resource: Resource, registry: Registry) -> list[Backend]:
    spec = EndpointSpec.model_validate(resource.document)
    if spec.pending is None:
        return [_backend(spec, variant, registry) for variant in spec.variants]
    return shared(spec, spec.pending, recall(spec.pending, resource.observation).share, registry)


def _backend(spec: EndpointSpec, variant: VariantSpec, registry: Registry) -> Backend:
    servers = tuple(Server(beat.replica_id, beat.host, beat.port) for beat in serving(spec, variant, registry))
    return Backend(spec.name, variant.name, variant.weight, servers, variant.limits.max_in_flight)


def serving(spec: EndpointSpec, variant: VariantSpec, registry: Registry) -> list[Beat]:
    """Ready replicas of the wanted revision; before it has one, those of the revision it replaces."""
    wanted = ready(registry.of(spec.name, variant.name, variant.revision))
    if wanted:
        return wanted
    others = ready(registry.of(spec.name, variant.name))
    return [beat for beat in others if beat.revision == others[-1].revision] if others else []

"""From what should be (store) and what is (registry) to the edge's route table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from server.beat import Beat
from server.controller.registry import Registry, ready
from server.controller.rollout import recall
from server.edge.routes import Backend, RouteTable, Server
from server.spec import EndpointSpec, Rollout, VariantSpec
from server.store.store import Resource


def route_table(endpoints: Iterable[Resource], registry: Registry, default_endpoint: str | None) -> RouteTable:
    """Routes to every ready replica of every endpoint that is not being deleted."""
    backends = [
        backend
        for resource in endpoints
        if resource.status != "Deleting"
        for backend in _backends(resource, registry)
    ]
    return RouteTable(backends=tuple(backends), default_endpoint=default_endpoint)


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


def shared(spec: EndpointSpec, rollout: Rollout, share: float, registry: Registry) -> list[Backend]:
    """Backends of an endpoint `share` of whose traffic goes to what `rollout` makes of it.

    Each side divides its part among its variants by their weights. A variant of one side only is there as long
    as that side has traffic.
    """
    sides = [(side, part) for side, part in ((spec, 1.0 - share), (rollout.spec, share)) if part > 0]
    names = dict.fromkeys(variant.name for side, _ in sides for variant in side.variants)
    split = len(rollout.strategy.shares) > 1
    return [_shared(spec.name, name, sides, (spec, rollout.spec), split, registry) for name in names]


def _shared(
    endpoint: str,
    name: str,
    sides: Sequence[tuple[EndpointSpec, float]],
    both: Sequence[EndpointSpec],
    split: bool,
    registry: Registry,
) -> Backend:
    parts: dict[str, float] = {}
    weighed: dict[str, float] = {}
    limits = [variant.limits.max_in_flight for side in both for variant in side.variants if variant.name == name]
    for side, part in sides:
        total = sum(variant.weight for variant in side.variants)
        for variant in side.variants:
            if variant.name == name:
                parts[variant.revision] = parts.get(variant.revision, 0.0) + part
                weighed[variant.revision] = weighed.get(variant.revision, 0.0) + part * variant.weight / total
    weight = sum(weighed.values())
    found = _ready_by_revision(endpoint, name, parts if weight == 0 else weighed, both, registry)
    servers = tuple(
        Server(beat.replica_id, beat.host, beat.port, part / len(beats)) for beats, part in found for beat in beats
    )
    return Backend(endpoint, name, weight, servers, max(limits), split)


def _ready_by_revision(
    endpoint: str, name: str, parts: Mapping[str, float], both: Sequence[EndpointSpec], registry: Registry
) -> list[tuple[list[Beat], float]]:
    """Ready replicas of each revision with its part; of any that can answer, when none of those can."""
    found = [(ready(registry.of(endpoint, name, revision)), part) for revision, part in parts.items() if part > 0]
    if any(beats for beats, _ in found):
        return [(beats, part) for beats, part in found if beats]
    every = dict.fromkeys(variant.revision for side in both for variant in side.variants if variant.name == name)
    return [(beats, 1.0) for revision in every if (beats := ready(registry.of(endpoint, name, revision)))]

"""What the edge routes of an endpoint while one version replaces another: both, each with its part. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from server.controller.affinity import affinity
from server.controller.registry import Heard, ready
from server.edge.routes import Backend, Routing, Server
from server.spec import EndpointSpec, Rollout, VariantSpec

Sides = Sequence[tuple[EndpointSpec, float]]
"""Both versions, and the part of the traffic that each has."""


def shared(spec: EndpointSpec, rollout: Rollout, share: float, heard: Heard) -> list[Backend]:
    """Backends of an endpoint `share` of whose traffic goes to what `rollout` makes of it.

    Each side divides its part among its variants by their weights. A variant of one side only is there as long
    as that side has traffic.
    """
    sides = [(spec, 1.0 - share), (rollout.spec, share)]
    names = dict.fromkeys(variant.name for side, part in sides if part > 0 for variant in side.variants)
    split = len(rollout.strategy.shares) > 1
    return [_backend(spec.name, name, sides, split, heard) for name in names]


def _backend(endpoint: str, name: str, sides: Sides, split: bool, heard: Heard) -> Backend:
    """One variant of both sides; who has no ready replica leaves its part to the other."""
    found = [
        (variant, part, part * variant.weight / sum(each.weight for each in side.variants))
        for side, part in sides
        for variant in side.variants
        if variant.name == name
    ]
    weight = sum(weighed for _, _, weighed in found)
    parts: dict[str, float] = {}
    for variant, part, weighed in found:
        # Without a weight of its own it is still asked for by name, in the parts of the sides.
        parts[variant.revision] = parts.get(variant.revision, 0.0) + (weighed if weight > 0 else part)
    beats = {revision: ready(heard.of(endpoint, name, revision)) for revision in parts}
    there = {revision: part for revision, part in parts.items() if beats[revision]}
    live = {revision: part for revision, part in there.items() if part > 0} or dict.fromkeys(there, 1.0)
    servers = tuple(
        Server(beat.replica_id, beat.host, beat.port, part / len(beats[revision]))
        for revision, part in live.items()
        for beat in beats[revision]
    )
    return Backend(
        endpoint, name, weight, servers, max(v.limits.max_in_flight for v, _, _ in found), split,
        routing=routing(found[-1][0]), affinity=affinity(found[-1][0]),
    )  # fmt: skip


def routing(variant: VariantSpec) -> Routing:
    return Routing(**variant.routing.model_dump())

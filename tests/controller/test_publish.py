"""Routes follow the replicas that beat, and the revision that can answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pydantic import JsonValue

from server.beat import LEASE_S, Beat
from server.controller.publish import route_table
from server.controller.registry import Registry
from server.spec import EndpointSpec, VariantSpec
from server.store.store import Resource

OLD, NEW = VariantSpec(model="one"), VariantSpec(model="two")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def resource(variant: VariantSpec, status: str = "InService") -> Resource:
    document = EndpointSpec(name="ep", variants=(variant,)).model_dump(mode="json")
    return Resource("Endpoint", "ep", "arn", document, 1, 1, status, None, NOW, NOW)


def beat(replica: str, variant: VariantSpec, port: int = 1000) -> Beat:
    return Beat(replica, "ep", variant.name, variant.revision, "127.0.0.1", port, 1, "ready")


def routed(registry: Registry, found: Resource) -> list[str]:
    (backend,) = route_table([found], registry, None).backends
    return [server.id for server in backend.servers]


def test_only_ready_replicas_are_routed() -> None:
    registry = Registry()
    registry.hear(beat("a", OLD))
    registry.hear(replace(beat("b", OLD), phase="loading"))
    registry.hear(replace(beat("c", OLD), phase="draining"))
    assert routed(registry, resource(OLD)) == ["a"]


def test_the_old_revision_answers_until_the_new_one_is_ready() -> None:
    registry = Registry()
    registry.hear(beat("old", OLD))
    registry.hear(replace(beat("new", NEW), phase="loading"))
    assert routed(registry, resource(NEW, "Updating")) == ["old"]
    registry.hear(beat("new", NEW))
    assert routed(registry, resource(NEW, "Updating")) == ["new"]


def test_an_endpoint_being_deleted_has_no_route() -> None:
    registry = Registry()
    registry.hear(beat("a", OLD))
    assert route_table([resource(OLD, "Deleting")], registry, None).backends == ()


def test_a_silent_replica_is_dropped_after_its_lease() -> None:
    clock = Clock()
    registry = Registry(clock)
    registry.hear(beat("a", OLD))
    registry.hear(beat("b", OLD))
    clock.now += LEASE_S - 1
    registry.hear(beat("a", OLD))
    clock.now += 2
    assert [lost.replica_id for lost in registry.drop_silent()] == ["b"]
    assert routed(registry, resource(OLD)) == ["a"]


def test_changes_wake_the_publisher_and_plain_beats_do_not() -> None:
    registry = Registry()
    registry.hear(beat("a", OLD))
    assert registry.changed.is_set()
    registry.changed.clear()
    registry.hear(replace(beat("a", OLD), in_flight=5))
    assert not registry.changed.is_set()
    registry.hear(replace(beat("a", OLD), phase="draining"))
    assert registry.changed.is_set()


def test_nothing_is_taken_for_gone_in_the_first_lease() -> None:
    clock = Clock()
    registry = Registry(clock)
    assert not registry.settled
    clock.now += LEASE_S + 0.1
    assert registry.settled


def serverless(name: str, **most: int | None) -> Resource:
    """An endpoint whose variants have these MaxConcurrency; None: one on instances."""
    variants = tuple(VariantSpec(name=variant, model="m") for variant in most)
    facts: dict[str, JsonValue] = {
        variant: {} if bound is None else {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": bound}}
        for variant, bound in most.items()
    }
    document = EndpointSpec(name=name, variants=variants, sagemaker={"Variants": facts}).model_dump(mode="json")
    return Resource("Endpoint", name, "arn", document, 1, 1, "InService", None, NOW, NOW)


def test_serverless_endpoints_are_bounded_and_others_are_not() -> None:
    found = [serverless("one", v=3), serverless("two", a=3, b=4), serverless("mixed", a=3, b=None), resource(OLD)]
    assert route_table(found, Registry(Clock()), None).concurrency == {"one": 3, "two": 7}

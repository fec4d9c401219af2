"""Metrics that are made of what replicas measure: per instance, and per provisioned concurrency."""

from __future__ import annotations

from server.beat import Beat
from server.controller.meter import measured, per_instance, utilization
from server.metrics.distribution import Distribution
from server.metrics.series import Point

BEAT = Beat("r1", "ep", "v", "rev", "127.0.0.1", 1, 1, "ready")


def points(start: int = 0, **metrics: list[float]) -> list[Point]:
    wire = {name: Distribution.of(values).to_wire() for name, values in metrics.items()}
    return measured(BEAT, [{"start": start, "metrics": wire}])


def test_each_request_counts_for_its_part_of_the_instances() -> None:
    (found,) = per_instance(points(Invocations=[1.0] * 6, ConcurrentRequestsPerModel=[0.0, 2.0]), 3)
    assert (found.name, found.source, found.values.count) == ("InvocationsPerInstance", "r1", 6)
    assert abs(found.values.total - 2.0) < 1e-9


def test_an_idle_replica_says_so_and_a_dead_one_nothing() -> None:
    (found,) = per_instance(points(ConcurrentRequestsPerModel=[0.0]), 1)
    assert (found.values.count, found.values.total) == (1, 0.0)
    assert list(per_instance(points(CPUUtilization=[1.0]), 1)) == []


def test_periods_stay_apart() -> None:
    found = list(per_instance(points(0, Invocations=[1.0]) + points(10, Invocations=[1.0, 1.0]), 1))
    assert sorted((each.start, each.values.total) for each in found) == [(0, 1.0), (10, 2.0)]


def test_use_of_provisioned_concurrency() -> None:
    document = {"sagemaker": {"Variants": {"v": {"ServerlessConfig": {"ProvisionedConcurrency": 8}}}}}
    (found,) = utilization(points(ConcurrentRequestsPerModel=[1.0, 3.0]), 2, document)
    assert (found.values.average, found.values.maximum) == (0.5, 0.75)
    assert list(utilization(points(ConcurrentRequestsPerModel=[1.0]), 2, {})) == []

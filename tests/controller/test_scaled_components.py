"""The scaler on inference components: the copy count of a component follows what its copies measure."""

from __future__ import annotations

from typing import Any

import pytest

from server.control import components
from server.controller.meter import measured, per_copy, per_instance
from server.errors import Refusal
from server.metrics.distribution import Distribution
from server.metrics.series import MetricStore, Point
from server.metrics.tracking import COPIES
from server.spec import EndpointSpec, Scaling, VariantSpec
from tests.controller import test_scaler
from tests.controller.test_components import copy
from tests.controller.test_scaler import ACCOUNT, REGION, World

OF: dict[str, Any] = {
    "ServiceNamespace": "sagemaker", "ResourceId": "inference-component/base", "ScalableDimension": COPIES,
}  # fmt: skip
empty, world = test_scaler.empty, test_scaler.world
FAST = {"PredefinedMetricType": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"}


def deployed(world: World, copies: int) -> None:
    scaling = Scaling(min_replicas=copies, max_replicas=max(1, copies))
    variant = VariantSpec(name="AllTraffic", component="base", model="m", scaling=scaling)
    spec = EndpointSpec(name="ep", variants=(variant,)).model_dump(mode="json")
    document = {"EndpointName": "ep", "VariantName": "AllTraffic", "fleet": spec}
    ready(world, world.store.create(components.KIND, "base", document, "InService"), copies)


def ready(world: World, component: Any, copies: int) -> None:
    world.store.observe(component, {"variants": {"AllTraffic": {"replicas": copies, "weight": 1.0}}})


def copies(world: World) -> int:
    return components.copies(components.fleet(world.store.get(components.KIND, "base")))


def look(world: World, seconds: float = 0.0) -> int:
    world.now += seconds
    world.scaler.look()
    return copies(world)


def measure(world: World, value: float, seconds: int = 60) -> None:
    end = int(world.now) // 10 * 10
    MetricStore(world.store.engine, ACCOUNT, REGION).add(
        Point("AWS/SageMaker", "ConcurrentRequestsPerCopy", {"InferenceComponentName": "base"}, "Count", start, 10,
              f"r{world.now}", Distribution.of([value]))
        for start in range(end - seconds, end, 10)
    )  # fmt: skip


def test_copies_follow_a_target(world: World) -> None:
    deployed(world, 1)
    world.call("RegisterScalableTarget", **OF, MinCapacity=1, MaxCapacity=4)
    configuration = {"TargetValue": 10.0, "PredefinedMetricSpecification": FAST}
    world.call("PutScalingPolicy", **OF, PolicyName="track", PolicyType="TargetTrackingScaling",
               TargetTrackingScalingPolicyConfiguration=configuration)  # fmt: skip
    look(world, 120)
    measure(world, 25.0)
    assert look(world, 3) == 3
    row = world.store.get(components.KIND, "base")
    assert (row.status, row.document["EndpointName"]) == ("InService", "ep")
    found = world.activities()[0]
    assert (found["Description"], found["StatusCode"]) == ("Setting desired copy count to 3.", "InProgress")
    ready(world, row, 3)
    look(world, 10)
    assert world.activities()[0]["StatusCode"] == "Successful"


def test_no_copies_stay_none_until_something_asks_for_some(world: World) -> None:
    deployed(world, 0)
    world.call("RegisterScalableTarget", **OF, MinCapacity=0, MaxCapacity=4)
    assert look(world, 30) == 0
    world.call("RegisterScalableTarget", **OF, MinCapacity=2)
    assert look(world, 10) == 2


def test_a_target_goes_with_its_component(world: World) -> None:
    deployed(world, 1)
    world.call("RegisterScalableTarget", **OF, MinCapacity=1, MaxCapacity=4)
    world.store.remove(world.store.get(components.KIND, "base"))
    world.scaler.look()
    assert world.call("DescribeScalableTargets", ServiceNamespace="sagemaker")["ScalableTargets"] == []


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("inference-component/nobody", "inference component doesn't exist"),
        ("inference-component/adapter", "has no copies"),
        ("endpoint/ep/variant/AllTraffic", "Unsupported"),
    ],
    ids=["nobody", "adapter", "variant"],
)
def test_what_has_no_copies_is_no_target(world: World, resource: str, words: str) -> None:
    specification = {"BaseInferenceComponentName": "base", "Container": {"ArtifactUrl": "s3://b/a"}}
    document = {"EndpointName": "ep", "VariantName": "AllTraffic", "Specification": specification}
    world.store.create(components.KIND, "adapter", document, "InService")
    with pytest.raises(Refusal, match=words):
        world.call("RegisterScalableTarget", **{**OF, "ResourceId": resource}, MinCapacity=1, MaxCapacity=4)


def test_what_copies_measure_goes_by_the_components_name() -> None:
    wire = {"start": 0, "metrics": {"Invocations": Distribution.of([1.0] * 4).to_wire(),
                                    "ConcurrentRequestsPerModel": Distribution.of([3.0]).to_wire()}}  # fmt: skip
    points = measured(copy(1), [wire])
    found = list(per_copy([*points, *per_instance(points, 2)], "base"))
    assert {point.name for point in found} == {
        "Invocations", "InvocationsPerInstance", "InvocationsPerCopy", "ConcurrentRequestsPerModel",
        "ConcurrentRequestsPerCopy",
    }  # fmt: skip
    assert {tuple(point.dimensions.items()) for point in found} == {(("InferenceComponentName", "base"),)}
    (shared,) = [point.values.total for point in found if point.name == "InvocationsPerCopy"]
    assert shared == 2.0



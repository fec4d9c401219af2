"""The scaler: what it makes of targets, policies and schedules, on a clock of its own, and the steps that follow."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from server.control.instances import Machine
from server.control.operations import Context
from server.control.services import SERVICES
from server.controller.decide import App
from server.controller.loop import Controller
from server.controller.scaler import Scaler
from server.metrics.distribution import Distribution
from server.metrics.series import MetricStore, Point
from server.metrics.tracking import INSTANCES, PROVISIONED
from server.replicas.names import AppName, app_name
from server.replicas.plan import Home
from server.settings import Settings
from server.spec import EndpointSpec, Scaling, VariantSpec
from server.store import quotas
from server.store.migrate import migrate
from server.store.store import Store, connect

ACCOUNT, REGION = "123456789012", "eu-west-1"
OF: dict[str, Any] = {
    "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/ep/variant/AllTraffic", "ScalableDimension": INSTANCES,
}  # fmt: skip
FAST = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scaler") / "empty.db"
    engine = connect(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file


class World:
    """A store, a clock, and a cluster that has as many replicas as it is told."""

    def __init__(self, store: Store) -> None:
        self.whole = store
        self.store = store.within(REGION)
        self.began = float(int(time.time()) // 60 * 60)
        """Close to when rows are made, whose times are the real clock's."""
        self.now = self.began
        self.scaler = Scaler(store, 600.0, lambda: self.now)

    def call(self, operation: str, **request: Any) -> Any:
        context = Context(self.store, Machine())
        return SERVICES["application-autoscaling"].built[operation](context, request)

    def endpoint(self, replicas: int = 1, scaling: Scaling | None = None, **facts: Any) -> None:
        scaling = scaling or Scaling(min_replicas=replicas, max_replicas=max(1, replicas))
        variants = (VariantSpec(model="m", scaling=scaling),)
        spec = EndpointSpec(name="ep", variants=variants, sagemaker={"Variants": {"AllTraffic": facts}})
        self.store.create("Endpoint", "ep", spec.model_dump(mode="json"), "InService")
        self.ready(replicas)

    def ready(self, replicas: int) -> None:
        seen = {"variants": {"AllTraffic": {"replicas": replicas, "weight": 1.0}}}
        self.store.observe(self.store.get("Endpoint", "ep"), seen)

    def register(self, low: int, high: int, **more: Any) -> None:
        self.call("RegisterScalableTarget", **{**OF, "MinCapacity": low, "MaxCapacity": high, **more})

    def track(self, target: float = 10.0, **more: Any) -> None:
        configuration = {"TargetValue": target, "PredefinedMetricSpecification": FAST, "ScaleOutCooldown": 60,
                         "ScaleInCooldown": 60, **more}  # fmt: skip
        self.call("PutScalingPolicy", **OF, PolicyName="track", PolicyType="TargetTrackingScaling",
                  TargetTrackingScalingPolicyConfiguration=configuration)  # fmt: skip

    def measure(self, value: float, seconds: int = 60, name: str = "ConcurrentRequestsPerModel") -> None:
        """The metric was `value` for the last `seconds`."""
        end = int(self.now) // 10 * 10
        MetricStore(self.store.engine, ACCOUNT, REGION).add(
            Point("AWS/SageMaker", name, {"EndpointName": "ep", "VariantName": "AllTraffic"}, "Count", start, 10,
                  f"r{self.now}", Distribution.of([value]))
            for start in range(end - seconds, end, 10)
        )  # fmt: skip

    def look(self, seconds: float = 0.0) -> int:
        """The capacity that is asked for after the clock went on."""
        self.now += seconds
        self.scaler.look()
        return self.capacity

    @property
    def spec(self) -> EndpointSpec:
        return EndpointSpec.model_validate(self.store.get("Endpoint", "ep").document)

    @property
    def capacity(self) -> int:
        return self.spec.variants[0].scaling.min_replicas

    def activities(self, **more: Any) -> list[dict[str, Any]]:
        return list(self.call("DescribeScalingActivities", ServiceNamespace="sagemaker", **more)["ScalingActivities"])

    def bounds(self) -> tuple[int, int]:
        (found,) = self.call("DescribeScalableTargets", ServiceNamespace="sagemaker")["ScalableTargets"]
        return found["MinCapacity"], found["MaxCapacity"]


@pytest.fixture
def world(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    shutil.copy(empty, tmp_path / "hearth.db")
    store = Store(connect(f"sqlite:///{tmp_path / 'hearth.db'}"), ACCOUNT, "us-east-1")
    made = World(store)
    monkeypatch.setattr("server.control.autoscaling.schedules.time.time", lambda: made.now)
    yield made
    store.engine.dispose()


def test_a_capacity_outside_its_bounds_is_moved_into_them(world: World) -> None:
    world.endpoint(1)
    world.register(2, 4)
    assert world.look() == 2
    resource = world.store.get("Endpoint", "ep")
    assert (resource.status, world.spec.variants[0].scaling.max_replicas) == ("InService", 2)
    (found,) = world.activities()
    assert found["Description"] == "Setting desired instance count to 2."
    assert (found["Cause"], found["StatusCode"]) == ("minimum capacity was set to 2", "InProgress")
    assert world.look(10) == 2
    assert world.activities()[0]["StatusCode"] == "InProgress"
    world.ready(2)
    world.look(10)
    (found,) = world.activities()
    assert (found["StatusCode"], found["EndTime"]) == ("Successful", world.now)
    assert found["StatusMessage"] == (
        "Successfully set desired instance count to 2. Change successfully fulfilled by sagemaker."
    )
    world.call("RegisterScalableTarget", **OF, MinCapacity=1, MaxCapacity=1)
    assert world.look(10) == 1
    assert world.activities()[0]["Cause"] == "maximum capacity was set to 1"


def test_a_load_step_goes_up_and_comes_back(world: World) -> None:
    world.endpoint(1)
    world.register(1, 4)
    world.track()
    world.measure(35.0)
    assert world.look(10) == 4
    found = world.activities()[0]
    assert found["Cause"].startswith(
        "monitor alarm TargetTracking-endpoint/ep/variant/AllTraffic-AlarmHigh-"
    )
    assert found["Cause"].endswith(" in state ALARM triggered policy track")
    assert found["Details"] == "[35, 35, 35] above the target of 10 on 1"
    world.ready(4)
    assert world.look(10) == 4
    world.now += 40
    world.measure(1.0, 40)
    assert world.look(5) == 4  # in the cooldown
    world.now += 60
    world.measure(1.0)
    assert world.look(5) == 1
    found = world.activities()[0]
    assert "AlarmLow" in found["Cause"]
    assert [each["StatusCode"] for each in world.activities()] == ["InProgress", "Successful"]


def test_what_was_measured_before_a_change_is_no_reason_to_scale_in(world: World) -> None:
    world.endpoint(2)
    world.register(1, 4)
    world.track(ScaleInCooldown=0)
    world.measure(9.5, 100)
    assert world.look(10) == 2
    world.call("RegisterScalableTarget", **OF, MinCapacity=3)
    assert world.look() == 3
    world.ready(3)
    world.look(10)
    world.call("RegisterScalableTarget", **OF, MinCapacity=1)
    world.measure(1.0, 10)
    assert world.look(10) == 3


def test_a_scale_out_is_not_made_twice_of_the_same_points(world: World) -> None:
    world.endpoint(1)
    world.register(1, 100)
    world.track(ScaleOutCooldown=0)
    world.measure(35.0)
    assert world.look(10) == 4
    assert world.look(10) == 4
    world.ready(4)
    assert world.look(10) == 4
    world.measure(12.0, 20)
    assert world.look(10) == 4  # not three points since
    world.now += 30
    world.measure(12.0, 40)
    assert world.look(5) == 5


def test_steps_follow_the_state_of_their_alarm(world: World) -> None:
    world.endpoint(1)
    world.register(1, 6)
    arn = world.call(
        "PutScalingPolicy", **OF, PolicyName="up", PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity", "Cooldown": 60, "StepAdjustments": [
                {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 10.0, "ScalingAdjustment": 1},
                {"MetricIntervalLowerBound": 10.0, "ScalingAdjustment": 3},
            ],
        },
    )["PolicyARN"]  # fmt: skip
    context = Context(world.store, Machine())
    alarms = SERVICES["monitoring"].built
    alarms["PutMetricAlarm"](context, {
        "AlarmName": "busy", "AlarmActions": [arn], "Namespace": "AWS/SageMaker", "MetricName": "Queue",
        "Statistic": "Maximum", "Period": 10, "EvaluationPeriods": 1, "Threshold": 20.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "Dimensions": [{"Name": "EndpointName", "Value": "ep"}, {"Name": "VariantName", "Value": "AllTraffic"}],
    })  # fmt: skip

    def state(value: str) -> None:
        alarms["SetAlarmState"](context, {"AlarmName": "busy", "StateValue": value, "StateReason": "test"})

    assert world.look(10) == 1
    world.measure(25.0, name="Queue")
    state("ALARM")
    assert world.look(10) == 2
    assert world.activities()[0]["Cause"] == "monitor alarm busy in state ALARM triggered policy up"
    world.ready(2)
    assert world.look(10) == 2  # in the cooldown
    assert world.look(60) == 3  # still on: once more (its metric has no new points, so just at the threshold)
    world.ready(3)
    state("OK")
    assert world.look(100) == 3
    alarms["DisableAlarmActions"](context, {"AlarmNames": ["busy"]})
    state("ALARM")
    assert world.look(100) == 3


def test_a_reason_for_not_scaling_is_written_down_once(world: World) -> None:
    world.endpoint(2)
    world.register(1, 2)
    world.track()
    for _ in range(3):
        world.now += 60
        world.measure(35.0)
        assert world.look(10) == 2
    assert world.activities() == []
    (found,) = world.activities(IncludeNotScaledActivities=True)
    assert (found["Description"], found["StatusCode"]) == ("Attempting to scale due to alarm triggered", "Failed")
    assert found["NotScaledReasons"] == [{"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 2}]


def test_a_suspended_target_stays(world: World) -> None:
    world.endpoint(1)
    world.register(1, 4, SuspendedState={"DynamicScalingOutSuspended": True})
    world.track()
    world.measure(35.0)
    assert world.look(10) == 1
    world.call("RegisterScalableTarget", **OF, SuspendedState={"DynamicScalingOutSuspended": False})
    assert world.look() == 4


def test_zero_and_back_by_a_request(world: World) -> None:
    world.endpoint(1)
    world.register(0, 2)
    world.track()
    world.measure(0.0)
    assert world.look(10) == 0
    scaling = world.spec.variants[0].scaling
    assert (scaling.min_replicas, scaling.max_replicas) == (0, 1)  # a request may still wake one
    world.ready(0)
    world.look(10)
    assert world.activities()[0]["StatusCode"] == "Successful"
    assert world.look(100) == 0
    world.now += 100
    world.ready(1)
    world.measure(1.0, 20, "Invocations")
    assert world.look(10) == 1
    assert world.activities()[0]["Cause"] == "a request woke the variant"


def test_replicas_between_two_numbers_are_taken_over(world: World) -> None:
    world.endpoint(2, Scaling(min_replicas=0, max_replicas=8))
    world.register(1, 4)
    assert world.look() == 2
    assert world.spec.variants[0].scaling.max_replicas == 2
    assert world.activities()[0]["Cause"] == "the scalable target was registered"


def test_an_endpoint_that_changes_is_left_alone_until_it_is_in_service(world: World) -> None:
    world.endpoint(1)
    world.register(2, 4)
    current = world.store.get("Endpoint", "ep")
    world.store.replace(current, current.document, "Updating")
    assert world.look() == 1
    world.store.report(world.store.get("Endpoint", "ep"), "InService")
    assert world.look() == 2


def test_how_a_change_can_end(world: World) -> None:
    world.endpoint(1)
    world.register(2, 4)
    world.look()
    world.call("RegisterScalableTarget", **OF, MinCapacity=3)
    world.look(10)
    assert [each["StatusCode"] for each in world.activities()] == ["InProgress", "Overridden"]
    world.look(601)
    assert world.activities()[0]["StatusCode"] == "Unfulfilled"
    world.call("RegisterScalableTarget", **OF, MinCapacity=4)
    world.look(10)
    world.store.report(world.store.get("Endpoint", "ep"), "Failed", "no card")
    world.look(10)
    found = world.activities()[0]
    assert (found["StatusCode"], "no card" in found["StatusMessage"]) == ("Failed", True)


def test_a_deleted_endpoint_takes_its_target_along(world: World) -> None:
    world.endpoint(1)
    world.register(1, 4)
    world.track()
    world.store.remove(world.store.get("Endpoint", "ep"))
    world.scaler.look()
    assert world.call("DescribeScalableTargets", ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert world.store.find("MetricAlarm") == []


def test_provisioned_concurrency(world: World) -> None:
    config = {"MemorySizeInMB": 2048, "MaxConcurrency": 40, "ProvisionedConcurrency": 2}
    world.endpoint(1, Scaling(min_replicas=1, max_replicas=40), ServerlessConfig=config)
    provisioned = {**OF, "ScalableDimension": PROVISIONED}
    world.register(2, 40, **provisioned)
    world.call("PutScalingPolicy", **provisioned, PolicyName="p", PolicyType="TargetTrackingScaling",
               TargetTrackingScalingPolicyConfiguration={"TargetValue": 0.5, "PredefinedMetricSpecification": {
                   "PredefinedMetricType": "SageMakerVariantProvisionedConcurrencyUtilization"}})  # fmt: skip
    world.measure(5.0, 300, "ServerlessProvisionedConcurrencyUtilization")
    world.look(10)
    facts: Any = world.spec.sagemaker["Variants"]
    assert facts["AllTraffic"]["ServerlessConfig"] == {**config, "ProvisionedConcurrency": 20}
    assert world.spec.variants[0].scaling == Scaling(min_replicas=2, max_replicas=40)
    assert world.activities()[0]["Description"] == "Setting provisioned concurrency to 20."
    world.ready(2)
    world.look(10)
    assert world.activities()[0]["StatusCode"] == "Successful"


def at(world: World, seconds: float) -> str:
    return datetime.fromtimestamp(world.began + seconds, UTC).strftime("at(%Y-%m-%dT%H:%M:%S)")


def schedule(world: World, expression: str, name: str = "a", **action: int) -> None:
    world.call("PutScheduledAction", **OF, ScheduledActionName=name, Schedule=expression,
               ScalableTargetAction={f"{k.title()}Capacity": v for k, v in action.items()})  # fmt: skip


def test_a_scheduled_action_comes_once(world: World) -> None:
    world.endpoint(1)
    world.register(1, 4)
    schedule(world, at(world, 60), min=2, max=8)
    assert world.look(59) == 1
    assert world.look(1) == 2
    assert world.bounds() == (2, 8)
    clamp, done = world.activities()
    assert (done["Description"], done["Cause"], done["StatusMessage"]) == (
        "Setting min capacity to 2 and max capacity to 8", "scheduled action name a was triggered",
        "Successfully set min capacity to 2 and max capacity to 8",
    )  # fmt: skip
    assert clamp["Cause"] == "minimum capacity was set to 2"
    world.call("RegisterScalableTarget", **OF, MinCapacity=1)
    world.scaler = Scaler(world.whole, 600.0, lambda: world.now)  # as after a kill -9
    for _ in range(3):
        world.look(30)
    assert world.bounds() == (1, 8)


def test_a_kill_in_the_middle_leaves_it_all_to_be_done_or_all_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.endpoint(1)
    world.register(1, 4)
    schedule(world, "rate(1 minute)", max=9)

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    for place in ("server.controller.timetable.record", "server.store.store.Store.replace"):
        world.now += 60
        with monkeypatch.context() as patch:
            patch.setattr(place, die)
            with pytest.raises(Killed):
                world.look()
        assert (world.bounds(), world.activities()) == ((1, 4), [])
    world.look()
    assert (world.bounds(), len(world.activities())) == ((1, 9), 1)  # the newest of the two times, once
    world.look()
    assert len(world.activities()) == 1


def test_two_controllers_do_it_once(world: World) -> None:
    world.endpoint(1)
    world.register(1, 4)
    schedule(world, at(world, 60), max=9)
    world.now += 60
    for _ in range(2):
        Scaler(world.whole, 600.0, lambda: world.now).look()
    assert len(world.activities()) == 1


def test_actions_that_are_suspended_over_or_impossible(world: World) -> None:
    world.endpoint(1)
    world.register(1, 4, SuspendedState={"ScheduledScalingSuspended": True})
    schedule(world, at(world, 60), max=9)
    assert (world.look(61), world.bounds()) == (1, (1, 4))
    world.call("RegisterScalableTarget", **OF, SuspendedState={"ScheduledScalingSuspended": False})
    assert (world.look(10), world.bounds()) == (1, (1, 4))  # its time is over
    world.call("PutScheduledAction", **OF, ScheduledActionName="b", Schedule="rate(1 minute)", EndTime=world.now + 30,
               ScalableTargetAction={"MaxCapacity": 9})  # fmt: skip
    assert (world.look(100), world.bounds()) == (1, (1, 4))
    schedule(world, "rate(1 minute)", "c", min=5)
    world.look(60)
    assert (world.activities()[0]["StatusCode"], world.bounds()) == ("Failed", (1, 4))


def test_activities_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.store.scaling.KEPT", 3)
    world.endpoint(1)
    world.register(1, 9)
    for low in range(2, 8):
        world.call("RegisterScalableTarget", **OF, MinCapacity=low)
        world.look(10)
    assert [each["Description"][-2] for each in world.activities()] == ["7", "6", "5"]


HOME = Home(
    beat_url="", token="", bind_host="127.0.0.1", account=ACCOUNT, region=REGION, drain_timeout_s=1.0, log_level="info",
    log_dir="", sampler=False, cache_dir="", objects_dir="", objects_url=None, database_url="", master_key_file="",
)  # fmt: skip


class FakeCluster:
    """Ray Serve as the controller sees it: notes what it is asked for."""

    def __init__(self) -> None:
        self.deployed: list[tuple[AppName, int, int]] = []
        self.deleted: list[AppName] = []

    def apps(self) -> dict[AppName, App]:
        return {name: App("running", "", low) for name, low, _ in self.deployed}

    def deploy(self, _spec: EndpointSpec, variant: VariantSpec, _home: object, name: AppName) -> None:
        self.deployed.append((name, variant.scaling.min_replicas, variant.scaling.max_replicas))

    def delete(self, name: AppName) -> None:
        self.deleted.append(name)


def test_the_controller_rescales_the_same_application(world: World, tmp_path: Path) -> None:
    world.endpoint(1)
    cluster: Any = FakeCluster()
    no_edge: Any = None
    controller = Controller(Settings(state_dir=tmp_path), world.whole, no_edge, HOME, "")
    controller._cluster = cluster
    asyncio.run(controller._reconcile())
    world.register(3, 4)
    assert world.look() == 3
    asyncio.run(controller._reconcile())
    name = app_name(world.spec, world.spec.variants[0])
    assert cluster.deployed == [(name, 1, 1), (name, 3, 3)]
    assert cluster.deleted == []
    assert world.store.get("Endpoint", "ep").status == "InService"


def test_a_quota_that_has_no_room(world: World) -> None:
    world.endpoint(2)
    world.register(2, 8)
    quotas.put(world.whole, ACCOUNT, quotas.INSTANCES, 3)
    schedule(world, at(world, 60), min=5)
    for _ in range(3):
        assert world.look(61) == 2
    (failed,) = [each for each in world.activities() if each["StatusCode"] == "Failed"]
    assert failed["Description"] == "Setting desired instance count to 5."
    assert "is 3 Instances, with current utilization of 2 Instances" in failed["StatusMessage"]
    quotas.put(world.whole, ACCOUNT, quotas.INSTANCES, 5)
    assert world.look(10) == 5

"""Inference experiments through boto3, from creation to their end; the controller's looks are taken by the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server.control.instances import Machine
from server.controller.experiments import Experiments
from server.shadow import reports
from server.shadow.reports import Subject
from server.store.store import Store
from tests.control.conftest import ROLE
from tests.control.test_endpoint_resource import spec
from tests.control.test_models import VARIANT, make_config, make_model
from tests.control.test_shadows import in_service

DAY = 86400.0


def variant(name: str, model: str, count: int = 1) -> dict[str, Any]:
    inner = {"InstanceType": VARIANT["InstanceType"], "InstanceCount": count}
    infrastructure = {"InfrastructureType": "RealTimeInference", "RealTimeInferenceConfig": inner}
    return {"ModelName": model, "VariantName": name, "InfrastructureConfig": infrastructure}


def mode(share: int = 50, source: str = "AllTraffic", shadow: str = "Shadow") -> dict[str, Any]:
    inner = [{"ShadowModelVariantName": shadow, "SamplingPercentage": share}]
    return {"SourceModelVariantName": source, "ShadowModelVariants": inner}


BOTH = [variant("AllTraffic", "m"), variant("Shadow", "other", 2)]
WANTED: dict[str, Any] = {
    "Name": "My-Test", "Type": "ShadowMode", "RoleArn": ROLE, "EndpointName": "ep", "ModelVariants": BOTH,
    "ShadowModeConfig": mode(), "Description": "which is better?",
}  # fmt: skip


class World:
    """A client, and the controller on a clock of its own."""

    def __init__(self, sagemaker: Any, store: Store) -> None:
        self.sagemaker = sagemaker
        self.store = store
        self.later = 0.0
        self.experiments = Experiments(store, Machine(), lambda: time.time() + self.later)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.experiments.look()

    def create(self, **more: Any) -> str:
        return str(self.sagemaker.create_inference_experiment(**{**WANTED, **more})["InferenceExperimentArn"])

    def told(self, name: str = "My-Test") -> Any:
        return self.sagemaker.describe_inference_experiment(Name=name)

    def status(self, name: str = "My-Test") -> str:
        return str(self.told(name)["Status"])

    def running(self, **more: Any) -> None:
        self.create(**more)
        self.look(3)
        in_service(self.store)
        self.look()
        assert self.status() == "Running"

    def settle(self) -> None:
        """The endpoint becomes what it was asked for; the experiment notices."""
        self.look()
        in_service(self.store)
        self.look()


@pytest.fixture
def world(sagemaker: Any, store: Store) -> World:
    make_model(sagemaker)
    make_model(sagemaker, "other", Environment={"HF_MODEL_ID": "hearth-python-lm", "OPTION_MAX_MODEL_LEN": "256"})
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    in_service(store)
    return World(sagemaker, store)


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_an_experiment_from_start_to_end(world: World, store: Store) -> None:
    arn = world.create(Tags=[{"Key": "k", "Value": "v"}])
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:inference-experiment/my-test"
    assert world.status() == "Creating"
    assert world.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]
    seen = []
    for _ in range(4):
        world.look()
        seen.append(world.status())
    assert seen == ["Created", "Starting", "Starting", "Starting"]
    pending = world.sagemaker.describe_endpoint(EndpointName="ep")["PendingDeploymentSummary"]
    (shadow,) = pending["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["DesiredInstanceCount"], shadow["DesiredWeight"]) == ("Shadow", 2, 0.5)
    in_service(store)
    world.look()
    found = world.told()
    assert found["Status"] == "Running"
    config = found["EndpointMetadata"].pop("EndpointConfigName")
    assert found["EndpointMetadata"] == {"EndpointName": "ep", "EndpointStatus": "InService"}
    assert world.sagemaker.describe_endpoint(EndpointName="ep")["EndpointConfigName"] == config
    made = world.sagemaker.describe_endpoint_config(EndpointConfigName=config)
    assert [each["VariantName"] for each in made["ShadowProductionVariants"]] == ["Shadow"]
    assert {each["VariantName"]: each["Status"] for each in found["ModelVariants"]} == {
        "AllTraffic": "InService", "Shadow": "InService",
    }  # fmt: skip
    assert found["ShadowModeConfig"] == mode()
    assert found["Description"] == "which is better?"
    assert (found["Schedule"]["EndTime"] - found["Schedule"]["StartTime"]).days == 7
    world.look()
    assert world.status() == "Running"
    world.later = 8 * DAY
    world.look()
    assert world.status() == "Stopping"
    world.settle()
    found = world.told()
    assert found["Status"] == "Completed"
    assert found["CompletionTime"].timestamp() == pytest.approx(time.time() + 8 * DAY, abs=60)
    assert {each["VariantName"]: each["Status"] for each in found["ModelVariants"]} == {
        "AllTraffic": "InService", "Shadow": "Deleted",
    }  # fmt: skip
    assert spec(store).shadows == ()
    assert [each.name for each in spec(store).variants] == ["AllTraffic"]


STOPS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "the shadow goes": ({"ModelVariantActions": {"Shadow": "Remove"}}, ["AllTraffic"], []),
    "the shadow stays": (
        {"ModelVariantActions": {"AllTraffic": "Retain", "Shadow": "Retain"}}, ["AllTraffic"], ["Shadow"],
    ),
    "the shadow takes over": ({"ModelVariantActions": {"AllTraffic": "Remove", "Shadow": "Promote"}}, ["Shadow"], []),
    "the shadow is promoted": ({"ModelVariantActions": {"Shadow": "Promote"}}, ["Shadow"], []),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "production", "shadows"), STOPS.values(), ids=STOPS)
def test_stopping(
    world: World, store: Store, request_: dict[str, Any], production: list[str], shadows: list[str]
) -> None:
    world.running()
    revision = spec(store).shadows[0].revision
    world.sagemaker.stop_inference_experiment(
        Name="My-Test", **request_, DesiredState="Cancelled", Reason="seen enough"
    )
    found = world.told()
    assert (found["Status"], found["StatusReason"]) == ("Stopping", "seen enough")
    world.settle()
    found = world.told()
    assert (found["Status"], found["StatusReason"]) == ("Cancelled", "seen enough")
    assert [each.name for each in spec(store).variants] == production
    assert [each.name for each in spec(store).shadows] == shadows
    assert spec(store).variants[0].weight == 1.0
    if production == ["Shadow"]:  # the very replicas that were compared
        assert spec(store).variants[0].revision == revision


def test_desired_variants_are_what_is_left(world: World, store: Store) -> None:
    world.running()
    world.sagemaker.stop_inference_experiment(
        Name="My-Test", ModelVariantActions={"AllTraffic": "Remove", "Shadow": "Promote"},
        DesiredModelVariants=[variant("Shadow", "other", 3)], DesiredState="Completed",
    )  # fmt: skip
    world.settle()
    assert world.status() == "Completed"
    assert spec(store).variants[0].scaling.min_replicas == 3


BAD_STOPS: dict[str, dict[str, Any]] = {
    "who is that?": {"ModelVariantActions": {"Nobody": "Remove"}},
    "it is one already": {"ModelVariantActions": {"AllTraffic": "Promote"}},
    "two of them": {"ModelVariantActions": {"AllTraffic": "Retain", "Shadow": "Promote"}},
    "nothing is left": {"ModelVariantActions": {"AllTraffic": "Remove", "Shadow": "Remove"}},
    "wanted and removed": {
        "ModelVariantActions": {"Shadow": "Remove"}, "DesiredModelVariants": [variant("Shadow", "other")],
    },
    "another model": {
        "ModelVariantActions": {"Shadow": "Promote"}, "DesiredModelVariants": [variant("Shadow", "m")],
    },
}  # fmt: skip


def test_stops_that_cannot_be(world: World) -> None:
    world.running()
    for words, request in BAD_STOPS.items():
        stop = partial(world.sagemaker.stop_inference_experiment, Name="My-Test", **request)
        assert refused(stop)[0] == "ValidationException", words
        assert world.status() == "Running", words


BAD: dict[str, dict[str, Any]] = {
    "one variant": {"ModelVariants": BOTH[:1]},
    "one name": {"ModelVariants": [BOTH[0], BOTH[0]]},
    "no such source": {"ShadowModeConfig": mode(source="Other")},
    "no such shadow": {"ShadowModeConfig": mode(shadow="Other")},
    "its own shadow": {"ShadowModeConfig": mode(shadow="AllTraffic")},
    "a negative share": {"ShadowModeConfig": mode(-1)},
    "no such model": {"ModelVariants": [BOTH[0], variant("Shadow", "none")]},
    "no instance": {"ModelVariants": [BOTH[0], variant("Shadow", "other", 0)]},
    "another model": {"ModelVariants": [variant("AllTraffic", "other"), BOTH[1]]},
    "no such endpoint": {"EndpointName": "none"},
    "an end before its start": {"Schedule": {"StartTime": 2_000_000_000, "EndTime": 1_999_999_999}},
    "too long": {"Schedule": {"StartTime": 2_000_000_000, "EndTime": 2_000_000_000 + 31 * DAY}},
    "over already": {"Schedule": {"StartTime": 1_000_000_000, "EndTime": 1_000_000_001}},
    "no place of ours": {"DataStorageConfig": {"Destination": "https://elsewhere/x"}},
}


def test_experiments_that_cannot_be(world: World) -> None:
    for words, more in BAD.items():
        assert refused(partial(world.create, **more))[0] == "ValidationException", words
        assert world.sagemaker.list_inference_experiments()["InferenceExperiments"] == [], words


def test_an_endpoint_has_one_experiment_and_one_shadow(world: World, store: Store) -> None:
    world.create()
    assert refused(world.create)[0] == "ResourceInUse"
    assert refused(lambda: world.create(Name="second"))[0] == "ResourceInUse"
    world.look()
    world.sagemaker.delete_inference_experiment(Name="My-Test")
    make_config(world.sagemaker, "shadowed", ShadowProductionVariants=[{**VARIANT, "VariantName": "s"}])
    world.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="shadowed")
    code, message = refused(world.create)
    assert (code, "Updating" in message) == ("ValidationException", True)
    in_service(store)
    assert refused(world.create)[0] == "ResourceInUse"


def test_a_scheduled_experiment_waits_or_is_started(world: World) -> None:
    start = time.time() + DAY
    world.create(Schedule={"StartTime": start, "EndTime": start + DAY})
    world.look(3)
    assert world.status() == "Created"
    promote = {"ModelVariantActions": {"Shadow": "Promote"}}
    stop = partial(world.sagemaker.stop_inference_experiment, Name="My-Test", **promote)
    assert refused(stop)[0] == "ConflictException"
    world.sagemaker.start_inference_experiment(Name="My-Test")
    found = world.told()
    assert found["Status"] == "Starting"
    assert found["Schedule"]["StartTime"] < datetime.fromtimestamp(start, UTC)
    assert refused(lambda: world.sagemaker.start_inference_experiment(Name="My-Test"))[0] == "ConflictException"
    world.settle()
    assert world.status() == "Running"


def test_what_has_not_started_is_stopped_without_touching_the_endpoint(world: World, store: Store) -> None:
    before = store.get("Endpoint", "ep").document
    start = time.time() + DAY
    world.create(Schedule={"StartTime": start, "EndTime": start + DAY})
    world.look()
    world.sagemaker.stop_inference_experiment(
        Name="My-Test", ModelVariantActions={"Shadow": "Remove"}, DesiredState="Cancelled"
    )
    world.look()
    assert world.status() == "Cancelled"
    assert store.get("Endpoint", "ep").document == before


def test_updates(world: World, store: Store) -> None:
    start = time.time() + DAY
    world.create(Schedule={"StartTime": start, "EndTime": start + DAY})
    world.look()
    world.sagemaker.update_inference_experiment(
        Name="My-Test", Schedule={"StartTime": start - 60, "EndTime": start + 60}, ShadowModeConfig=mode(10)
    )
    assert world.status() == "Updating"
    assert refused(lambda: world.sagemaker.update_inference_experiment(Name="My-Test"))[0] == "ConflictException"
    world.look()
    assert world.status() == "Created"
    world.sagemaker.start_inference_experiment(Name="My-Test")
    world.settle()
    assert spec(store).shadows[0].weight == pytest.approx(0.1)
    code, message = refused(
        lambda: world.sagemaker.update_inference_experiment(Name="My-Test", Schedule={"StartTime": start + 5})
    )
    assert (code, "EndTime" in message) == ("ValidationException", True)
    world.sagemaker.update_inference_experiment(
        Name="My-Test", ShadowModeConfig=mode(100), ModelVariants=[BOTH[0], variant("Shadow", "other", 1)],
        Description="more",
    )  # fmt: skip
    world.settle()
    found = world.told()
    assert (found["Status"], found["Description"]) == ("Running", "more")
    (shadow,) = spec(store).shadows
    assert (shadow.weight, shadow.scaling.min_replicas) == (1.0, 1)
    generation = store.get("Endpoint", "ep").generation
    world.sagemaker.update_inference_experiment(Name="My-Test", Description="words alone")
    world.look(2)
    assert world.status() == "Running"
    assert store.get("Endpoint", "ep").generation == generation


def test_a_shadow_that_cannot_start_cancels_the_experiment(world: World, store: Store) -> None:
    world.create()
    world.look(3)
    current = store.get("Endpoint", "ep")
    document = {name: value for name, value in current.document.items() if name != "pending"}
    store.replace(current, document, "InService", reason="The deployment was rolled back: no weights.")
    world.look()
    found = world.told()
    assert (found["Status"], found["StatusReason"]) == ("Cancelled", "The deployment was rolled back: no weights.")


def test_whoever_takes_the_shadow_away_ends_the_experiment(world: World, store: Store) -> None:
    world.running()
    world.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="c")
    world.look()
    assert world.status() == "Running"
    in_service(store)
    world.look()
    assert world.told()["Status"] == "Cancelled"
    assert "updated to c" in world.told()["StatusReason"]


def test_an_endpoint_that_is_deleted_ends_its_experiment(world: World, store: Store) -> None:
    world.running()
    world.sagemaker.delete_endpoint(EndpointName="ep")
    world.look()
    found = world.told()
    assert (found["Status"], found["StatusReason"]) == ("Cancelled", "the endpoint was deleted")
    store.remove(store.get("Endpoint", "ep"))
    assert world.told()["EndpointMetadata"]["EndpointName"] == "ep"


def test_deleting(world: World, store: Store) -> None:
    world.running()
    assert refused(lambda: world.sagemaker.delete_inference_experiment(Name="My-Test"))[0] == "ConflictException"
    reports.keep(store, Subject("ep", "AllTraffic", "Shadow", "r", "My-Test"), {}, None)
    world.sagemaker.stop_inference_experiment(Name="My-Test", ModelVariantActions={"Shadow": "Remove"})
    world.settle()
    world.sagemaker.delete_inference_experiment(Name="My-Test")
    assert reports.found(store, "ep") == []
    for call, more in (
        (world.sagemaker.describe_inference_experiment, {}),
        (world.sagemaker.delete_inference_experiment, {}),
        (world.sagemaker.start_inference_experiment, {}),
        (world.sagemaker.update_inference_experiment, {}),
        (world.sagemaker.stop_inference_experiment, {"ModelVariantActions": {"Shadow": "Remove"}}),
    ):
        assert refused(partial(call, Name="My-Test", **more))[0] == "ResourceNotFound"


def test_lists(world: World) -> None:
    world.create()
    world.look()
    world.sagemaker.stop_inference_experiment(Name="My-Test", ModelVariantActions={"Shadow": "Remove"})
    world.look()
    world.create(Name="a-second")

    def names(**more: Any) -> list[str]:
        found = world.sagemaker.list_inference_experiments(**more)["InferenceExperiments"]
        return [each["Name"] for each in found]

    assert names() == ["a-second", "My-Test"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["My-Test", "a-second"]
    assert names(NameContains="sec") == ["a-second"]
    assert names(StatusEquals="Completed") == ["My-Test"]
    assert names(Type="ShadowMode", MaxResults=1) == ["a-second"]
    assert names(CreationTimeAfter=datetime.now(UTC)) == []
    (found, _) = world.sagemaker.list_inference_experiments()["InferenceExperiments"]
    assert (found["Type"], found["Status"], found["RoleArn"]) == ("ShadowMode", "Creating", ROLE)

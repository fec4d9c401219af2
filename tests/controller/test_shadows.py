"""Shadow variants and the controller: their replicas, whom the edge never names, and whom copies go to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.beat import Beat
from server.control.instances import Machine
from server.control.operations import Context
from server.control.resources import SAGEMAKER
from server.controller.captures import Captures
from server.controller.experiments import Experiments
from server.controller.shadows import Shadows
from server.objects.opening import open_storage
from server.objects.operations import MODEL
from server.shadow import reports
from server.shadow.copies import Target
from server.shadow.pairs import Pair, Side
from server.shadow.tally import Tally
from server.spec import EndpointSpec, Rollout, Scaling, Strategy, VariantSpec
from tests.controller.rehearsal import NAME, Rehearsal

TWO = Scaling(min_replicas=2, max_replicas=2)
PRODUCTION = VariantSpec(model="one", scaling=TWO, weight=2.0)
SHADOW = VariantSpec(name="Shadow", model="two", scaling=TWO, weight=0.5)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Rehearsal]:
    made = Rehearsal(tmp_path)
    yield made
    made.store.engine.dispose()


def update(world: Rehearsal, new: EndpointSpec, strategy: Strategy | None = None) -> None:
    """What UpdateEndpoint writes."""
    current = world.resource
    rollout = Rollout(spec=new, strategy=strategy or Strategy(), asked_at=world.now)
    old = EndpointSpec.model_validate(current.document)
    world.store.replace(current, old.model_copy(update={"pending": rollout}).model_dump(mode="json"), "Updating")


def shadowed(world: Rehearsal) -> EndpointSpec:
    """An endpoint in service with a shadow beside it."""
    old = world.serve(PRODUCTION)
    spec = old.model_copy(update={"shadows": (SHADOW,), "sagemaker": {"EndpointConfigName": "shadowed"}})
    update(world, spec)
    world.until("InService")
    world.run(2)
    return spec


def routed(world: Rehearsal) -> set[str]:
    """The variants that the edge knows."""
    return {backend.variant for backend in world.edge.table.backends}


def models(world: Rehearsal) -> set[str]:
    return set(world.cluster.models.values())


def target(world: Rehearsal, variant: VariantSpec = PRODUCTION) -> Target | None:
    """Where a replica of `variant` is told to send copies."""
    beat = next(b for b in world.cluster.beats() if b.revision == variant.revision and b.variant == variant.name)
    told = world.controller.shadows.target(beat, world.controller.registry)
    return None if told is None else Target.from_wire(told)


def test_a_shadow_is_added_without_a_moved_request_and_is_never_routed(world: Rehearsal) -> None:
    spec = shadowed(world)
    assert models(world) == {"one", "two"}
    assert routed(world) == {"AllTraffic"}
    assert world.edge.shares() == {PRODUCTION.revision: 1.0}
    told = target(world)
    assert told is not None
    assert (told.variant, told.share, len(told.replicas), told.keeps) == ("Shadow", 0.25, 2, False)
    assert target(world, SHADOW) is None
    assert {beat.variant: world.controller.shadows.has(beat) for beat in world.cluster.beats()} == {
        "AllTraffic": False, "Shadow": True,
    }  # fmt: skip
    assert EndpointSpec.model_validate(world.resource.document) == spec
    assert world.resource.observation == {
        "variants": {"AllTraffic": {"replicas": 2, "weight": 2.0}, "Shadow": {"replicas": 2, "weight": 0.5}}
    }


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed every second"])
def test_a_shadow_that_cannot_start_leaves_production_as_it_was(world: Rehearsal, killed: bool) -> None:
    old = world.serve(PRODUCTION)
    world.cluster.broken = "two"
    update(world, old.model_copy(update={"shadows": (SHADOW,)}))
    world.until("InService", killed=killed)
    assert "was rolled back" in world.told()
    world.run(3)
    assert models(world) == {"one"}
    assert EndpointSpec.model_validate(world.resource.document) == old


def test_a_dead_shadow_is_nobody_s_trouble(world: Rehearsal) -> None:
    shadowed(world)
    world.cluster.replicas = {app: 0 if app.variant == "Shadow" else n for app, n in world.cluster.replicas.items()}
    asyncio.run(quiet(world))
    told = target(world)
    assert told is not None
    assert told.replicas == ()
    assert world.resource.status == "InService"
    assert world.edge.shares() == {PRODUCTION.revision: 1.0}
    world.run(3)
    told = target(world)
    assert told is not None
    assert len(told.replicas) == 2


async def quiet(world: Rehearsal) -> None:
    """A look at what is there, in which nothing comes or goes."""
    registry = world.controller.registry
    registry._beats.clear()
    for beat in world.cluster.beats():
        registry.hear(beat)
    await world.controller._reconcile()
    await world.controller._publish()


@pytest.mark.parametrize("strategy", [Strategy(), Strategy(shares=(0.5, 1.0), rolling=True)], ids=["once", "rolling"])
def test_another_production_and_another_shadow_come_together(world: Rehearsal, strategy: Strategy) -> None:
    shadowed(world)
    one, two = PRODUCTION.model_copy(update={"model": "three"}), SHADOW.model_copy(update={"model": "four"})
    new = EndpointSpec(name=NAME, variants=(one,), shadows=(two,))
    update(world, new, strategy)
    world.until("InService")
    world.run(4)
    assert models(world) == {"three", "four"}
    assert routed(world) == {"AllTraffic"}
    told = target(world, one)
    assert told is not None
    assert len(told.replicas) == 2


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed every second"])
def test_a_promoted_shadow_takes_over_with_the_replicas_that_it_has(world: Rehearsal, killed: bool) -> None:
    spec = shadowed(world)
    deployed = {app for app in world.cluster.models if app.variant == "Shadow"}
    new = EndpointSpec(name=NAME, variants=(SHADOW.model_copy(update={"weight": 2.0}),), sagemaker=spec.sagemaker)
    update(world, new)
    world.until("InService", killed=killed)
    world.run(4)
    assert set(world.cluster.models) == deployed
    assert routed(world) == {"Shadow"}
    assert target(world, SHADOW) is None
    assert not any(world.controller.shadows.has(beat) for beat in world.cluster.beats())


def test_it_goes_with_its_endpoint(world: Rehearsal) -> None:
    spec = shadowed(world)
    tell(world, 5)
    assert reports.found(world.store, NAME)[0]["sampled"] == 5
    world.store.replace(world.resource, spec.model_dump(mode="json"), "Deleting")
    world.run(3)
    assert world.cluster.models == {}
    assert reports.found(world.store, NAME) == []


def message(subject: str, sampled: int, pairs: list[Pair] | None = None) -> dict[str, Any]:
    tally = Tally()
    for _ in range(sampled):
        tally.count("sampled")
    return {"tallies": {subject: tally.to_wire()}, "first": 0, "pairs": [pair.to_wire() for pair in pairs or ()]}


def tell(world: Rehearsal, sampled: int) -> None:
    """A production replica tells its totals."""
    shadows, told = world.controller.shadows, target(world)
    assert told is not None
    beat = next(b for b in world.cluster.beats() if b.variant == "AllTraffic")
    shadows.hear(beat, message(told.subject, sampled))
    shadows.flush({beat.replica_id})


def test_totals_survive_the_controller(world: Rehearsal) -> None:
    shadowed(world)
    tell(world, 5)
    world.run(1, killed=True)
    tell(world, 5)
    tell(world, 7)
    (report,) = reports.found(world.store, NAME)
    assert (report["sampled"], report["production"], report["shadow"]) == (7, "AllTraffic", "Shadow")
    for bad in ({}, {"tallies": {"x": {}}, "first": 0, "pairs": []}, {"tallies": {}, "first": 0, "pairs": [{}]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            world.controller.shadows.hear(world.cluster.beats()[0], bad)


INFRASTRUCTURE = {
    "InfrastructureType": "RealTimeInference",
    "RealTimeInferenceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}
ROLE = "arn:aws:iam::123456789012:role/hearth"


def call(world: Rehearsal, operation: str, **request: Any) -> Any:
    return SAGEMAKER.built[operation](Context(world.store, Machine()), request)


def experiment(world: Rehearsal, **more: Any) -> None:
    """An endpoint in service and an experiment on it, both asked for as a client does."""
    for name, length in (("m", "512"), ("other", "256")):
        variables = {"HF_MODEL_ID": "hearth-python-lm", "OPTION_MAX_MODEL_LEN": length}
        container = {"Image": "djl-inference", "Environment": variables}
        call(world, "CreateModel", ModelName=name, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    call(world, "CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant])
    call(world, "CreateEndpoint", EndpointName=NAME, EndpointConfigName="c")
    world.run(6)
    assert world.resource.status == "InService"
    both = [
        {"ModelName": model, "VariantName": name, "InfrastructureConfig": INFRASTRUCTURE}
        for model, name in (("m", "AllTraffic"), ("other", "Shadow"))
    ]
    shadow = [{"ShadowModelVariantName": "Shadow", "SamplingPercentage": 100}]
    call(
        world, "CreateInferenceExperiment", Name="x", Type="ShadowMode", RoleArn=ROLE, EndpointName=NAME,
        ModelVariants=both, ShadowModeConfig={"SourceModelVariantName": "AllTraffic", "ShadowModelVariants": shadow},
        **more,
    )  # fmt: skip


def status(world: Rehearsal) -> str:
    return str(call(world, "DescribeInferenceExperiment", Name="x")["Status"])


def seconds(world: Rehearsal, until: str, *, killed: bool) -> None:
    """Seconds of both loops until the experiment is where it should be; after each the controller may be a new one."""
    looking = Experiments(world.store, Machine())
    for _ in range(60):
        if status(world) == until:
            return
        if killed:
            looking = Experiments(world.store, Machine())
        looking.look()
        world.run(1, killed=killed)
        assert world.edge.shares("AllTraffic" if "AllTraffic" in routed(world) else "Shadow")
    raise AssertionError((status(world), world.resource))


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed every second"])
def test_an_experiment_from_start_to_promotion(world: Rehearsal, killed: bool) -> None:
    experiment(world)
    seconds(world, "Running", killed=killed)
    assert routed(world) == {"AllTraffic"}
    world.run(1)
    (spec,) = [EndpointSpec.model_validate(world.resource.document)]
    told = target(world, spec.variants[0])
    assert told is not None
    assert (told.share, told.keeps) == (1.0, False)
    call(world, "StopInferenceExperiment", Name="x", ModelVariantActions={"Shadow": "Promote"})
    seconds(world, "Completed", killed=killed)
    world.run(3)
    assert routed(world) == {"Shadow"}
    assert {app.variant for app in world.cluster.models} == {"Shadow"}


def test_differing_pairs_are_kept_where_the_experiment_wants_them(world: Rehearsal, tmp_path: Path) -> None:
    storage = open_storage(world.settings)
    storage.call(MODEL.operation_model("CreateBucket"), {"Bucket": "captures"}, None)
    experiment(world, DataStorageConfig={"Destination": "s3://captures/deep"})
    seconds(world, "Running", killed=False)
    world.run(1)
    told = target(world, EndpointSpec.model_validate(world.resource.document).variants[0])
    assert told is not None
    assert told.keeps
    side = Side(200, "application/json", b"[1]")
    pairs = [Pair(told.subject, f"r{n}", 0.0, "application/json", b"{}", side, side) for n in range(3)]
    shadows = Shadows(world.store, Captures(world.settings), world.settings.account)
    shadows.look([world.resource])

    async def twice() -> None:
        for _ in range(2):  # a beat whose answer was lost comes again
            shadows.hear(beat, message(told.subject, 3, pairs))
            await asyncio.gather(*shadows._writing)

    beat = replace(next(b for b in world.cluster.beats() if b.variant == "AllTraffic"), replica_id="r1")
    asyncio.run(twice())
    listed = storage.call(MODEL.operation_model("ListObjectsV2"), {"Bucket": "captures"}, None)["Contents"]
    keys = [each["Key"] for each in listed]
    assert [key.rsplit("/", 1)[0] for key in keys] == [
        f"deep/{NAME}/{variant}/1970/01/01/00" for variant in ("AllTraffic", "Shadow")
    ]
    content = storage.call(MODEL.operation_model("GetObject"), {"Bucket": "captures", "Key": keys[0]}, None)["Body"]
    assert len(b"".join(content.blocks()).splitlines()) == 3
    content.close()
    storage.close()
    flush_and_report(shadows, beat, world)


def flush_and_report(shadows: Shadows, beat: Beat, world: Rehearsal) -> None:
    shadows.flush({beat.replica_id})
    (report,) = reports.found(world.store, NAME)
    assert (report["experiment"], report["sampled"]) == ("x", 3)

"""Rollouts by the controller, on a played cluster and clock: each strategy through, and back from everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.spec import EndpointSpec, Scaling, Strategy, VariantSpec
from tests.controller.rehearsal import Rehearsal

FOUR = Scaling(min_replicas=4, max_replicas=4)
OLD, NEW = VariantSpec(model="one", scaling=FOUR), VariantSpec(model="two", scaling=FOUR)
AT_ONCE = Strategy(bake_s=4, termination_wait_s=4, alarms=("errors",))
CANARY = Strategy(shares=(0.25, 1.0), bake_s=4, termination_wait_s=4, timeout_s=60, alarms=("errors",))
LINEAR = Strategy(shares=(0.25, 0.5, 0.75, 1.0), bake_s=3, alarms=("errors",))
ROLLING = Strategy(shares=(0.5, 1.0), rolling=True, rollback_step=0.5, bake_s=3, alarms=("errors",))
EVERY = {"at once": AT_ONCE, "canary": CANARY, "linear": LINEAR, "rolling": ROLLING}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Rehearsal]:
    made = Rehearsal(tmp_path)
    yield made
    made.store.engine.dispose()


def settled(world: Rehearsal, spec: EndpointSpec) -> None:
    """`spec` is all there is, in full, with all of the traffic."""
    world.run(6)
    assert EndpointSpec.model_validate(world.resource.document) == spec
    assert set(world.cluster.models) == world.apps(spec)
    assert {name: s.min_replicas for name, s in world.cluster.scaling.items()} == dict.fromkeys(world.apps(spec), 4)
    assert world.edge.shares() == {spec.variants[0].revision: pytest.approx(1.0)}
    assert world.resource.status == "InService"
    assert set(world.resource.observation or {}) == {"variants"}


@pytest.mark.parametrize("strategy", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("killed", [False, True], ids=["", "killed every second"])
def test_every_strategy_gets_there(world: Rehearsal, strategy: Strategy, killed: bool) -> None:
    world.serve(OLD)
    new = world.roll_out(strategy, NEW)
    shares: list[float] = []
    baked = 0
    while world.resource.status != "InService":
        progress = world.second(killed=killed)
        baked += progress is not None and progress.stage == "baking"
        green = world.edge.shares().get(NEW.revision, 0.0)
        if not shares or shares[-1] != pytest.approx(green):
            shares.append(green)
    assert shares == pytest.approx([0.0, *strategy.shares])
    assert baked == pytest.approx(strategy.bake_s * len(strategy.shares), abs=len(strategy.shares))
    assert not world.told()
    settled(world, new)


def test_both_fleets_are_there_in_full_until_the_termination_wait_is_over(world: Rehearsal) -> None:
    old = world.serve(OLD)
    new = world.roll_out(CANARY, NEW)
    sizes = set()
    while world.resource.status == "Updating":
        sizes.add(tuple(world.cluster.scaling[app].min_replicas for app in (world.apps(old) | world.apps(new))
                        if app in world.cluster.scaling))  # fmt: skip
        world.run(1)
    assert sizes == {(4,), (4, 4)}


def test_a_rolling_update_never_has_more_than_a_batch_too_many(world: Rehearsal) -> None:
    world.serve(OLD)
    world.roll_out(ROLLING, NEW)
    most = 0
    while world.resource.status == "Updating":
        world.run(1)
        most = max(most, sum(world.cluster.replicas.values()))
    assert most == 6


def stages(strategy: Strategy) -> list[int]:
    """Seconds after the start of a rollout that hit each of its stages."""
    return [1, 6, *(range(8, 24, 5) if len(strategy.shares) > 1 else [10, 12])]


@pytest.mark.parametrize("strategy", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("killed", [False, True], ids=["", "killed every second"])
def test_an_alarm_at_any_stage_brings_the_old_back(tmp_path: Path, strategy: Strategy, killed: bool) -> None:
    for after in stages(strategy):
        folder = tmp_path / str(after)
        folder.mkdir()
        world = Rehearsal(folder)
        alarm = world.alarm("errors")
        old = world.serve(OLD)
        world.roll_out(strategy, NEW)
        world.run(after)
        if world.resource.status == "Updating":
            assert world.store.report(alarm, "ALARM")
            world.until("InService", killed=killed)
            assert world.told() == "The deployment of new was rolled back: alarm errors is in ALARM."
            settled(world, old)
            assert "ALARM" in str(world.told()), "it is still told when all is calm"
        world.store.engine.dispose()


def test_an_alarm_that_rang_while_no_controller_lived_counts(world: Rehearsal) -> None:
    alarm = world.alarm("errors")
    world.serve(OLD)
    world.roll_out(CANARY, NEW)
    world.run(7)
    world.store.observe(alarm, {"History": [
        {"HistoryItemType": "StateUpdate", "Timestamp": world.now,
         "HistoryData": '{"oldState": {"stateValue": "ALARM"}, "newState": {"stateValue": "OK"}}'}]})  # fmt: skip
    world.run(1, killed=True)
    assert world.resource.status == "RollingBack"
    assert world.edge.shares() == {OLD.revision: 1.0}, "traffic goes first, then the replicas"
    assert NEW.model in world.cluster.models.values()


def test_one_that_rang_before_does_not(world: Rehearsal) -> None:
    alarm = world.alarm("errors")
    world.serve(OLD)
    world.store.observe(alarm, {"History": [
        {"HistoryItemType": "StateUpdate", "Timestamp": world.now - 1,
         "HistoryData": '{"oldState": {"stateValue": "ALARM"}, "newState": {"stateValue": "OK"}}'}]})  # fmt: skip
    new = world.roll_out(CANARY, NEW)
    world.until("InService")
    settled(world, new)


@pytest.mark.parametrize("strategy", EVERY.values(), ids=EVERY)
def test_replicas_that_cannot_start_bring_the_old_back_with_their_reason(world: Rehearsal, strategy: Strategy) -> None:
    old = world.serve(OLD)
    world.cluster.broken = "two"
    world.roll_out(strategy, NEW)
    world.until("InService")
    assert world.told() == "The deployment of new was rolled back: variant AllTraffic: no weights."
    settled(world, old)
    world.cluster.broken = None
    new = world.roll_out(strategy, NEW)
    world.until("InService")
    assert not world.told()
    settled(world, new)


@pytest.mark.parametrize("call", range(2, 9))
def test_a_controller_that_dies_between_two_steps_goes_on_with_them(world: Rehearsal, call: int) -> None:
    world.serve(OLD)
    world.cluster.dies_at = call
    new = world.roll_out(ROLLING, NEW)
    seen = world.until("InService")
    shares = [progress.share for progress in seen]
    assert shares == sorted(shares)
    settled(world, new)


def test_old_replicas_that_die_for_good_are_made_anew_meanwhile(world: Rehearsal) -> None:
    old = world.serve(OLD)
    new = world.roll_out(CANARY, NEW)
    world.run(6)
    world.cluster.broken = "one"
    world.cluster.replicas.update(dict.fromkeys(world.apps(old), 0))
    world.run(1)
    world.cluster.broken = None
    world.until("InService")
    settled(world, new)


def test_an_application_that_is_not_taken_brings_the_old_back(world: Rehearsal) -> None:
    old = world.serve(OLD)
    world.cluster.refused = "two"
    world.roll_out(CANARY, NEW)
    world.until("InService", limit=4)
    assert world.told() == "The deployment of new was rolled back: no such option."
    settled(world, old)


@pytest.mark.parametrize("strategy", EVERY.values(), ids=EVERY)
def test_replicas_that_never_get_ready_bring_the_old_back(world: Rehearsal, strategy: Strategy) -> None:
    old = world.serve(OLD)
    world.cluster.hanging = "two"
    world.roll_out(strategy, NEW)
    seen = world.until("InService")
    assert "within" in str(world.told()) or "MaximumExecutionTimeoutInSeconds" in str(world.told())
    assert all(progress.share == 0 for progress in seen)
    settled(world, old)


def test_a_rollout_that_takes_too_long_goes_back(world: Rehearsal) -> None:
    old = world.serve(OLD)
    world.roll_out(CANARY.model_copy(update={"bake_s": 500.0}), NEW)
    seen = world.until("InService")
    assert {progress.share for progress in seen} >= {0.25}
    assert "MaximumExecutionTimeoutInSeconds (60)" in str(world.told())
    settled(world, old)


def test_a_rollback_that_does_not_succeed_says_so_and_goes_on_when_it_can(world: Rehearsal) -> None:
    alarm = world.alarm("errors")
    old = world.serve(OLD)
    world.roll_out(ROLLING, NEW)
    world.run(7)
    world.cluster.hanging = "one"
    assert world.store.report(alarm, "ALARM")
    world.run(2)
    for app in world.apps(old):
        world.cluster.replicas[app] = 1
    if world.resource.status == "RollingBack":
        world.until("UpdateRollbackFailed")
        assert world.edge.shares().keys() == {OLD.revision, NEW.revision}, "in service with a mix of both"
        assert "could not be rolled back" in str(world.told())
        world.cluster.hanging = None
        world.until("InService")
    settled(world, old)


def test_variants_come_go_and_stay(world: Rehearsal) -> None:
    stays = VariantSpec(name="stays", model="same", weight=1.0)
    goes, comes = VariantSpec(name="goes", model="one"), VariantSpec(name="comes", model="two")
    world.serve(stays, goes)
    world.roll_out(CANARY, stays, comes)
    world.run(3)
    weights = {backend.variant: backend.weight for backend in world.edge.table.backends}
    assert weights == pytest.approx({"stays": 0.5, "goes": 0.375, "comes": 0.125})
    world.until("InService")
    world.run(2)
    assert {backend.variant for backend in world.edge.table.backends} == {"stays", "comes"}


def test_a_variant_without_traffic_is_shared_too(world: Rehearsal) -> None:
    first, second = VariantSpec(name="main", model="main"), VariantSpec(name="side", model="one", weight=0.0)
    world.serve(first, second)
    replaced = second.model_copy(update={"model": "two"})
    world.roll_out(CANARY, first, replaced)
    world.run(3)
    assert world.edge.shares("side") == pytest.approx({second.revision: 0.75, replaced.revision: 0.25})


def test_a_sleeping_endpoint_is_awake_while_it_changes(world: Rehearsal) -> None:
    sleepy = Scaling(min_replicas=0)
    world.serve(OLD.model_copy(update={"scaling": sleepy}))
    new = world.roll_out(LINEAR, NEW.model_copy(update={"scaling": sleepy}))
    world.run(2)
    assert {scaling.min_replicas for scaling in world.cluster.scaling.values()} == {1}
    world.until("InService")
    world.run(1)
    assert EndpointSpec.model_validate(world.resource.document) == new
    assert {scaling.min_replicas for scaling in world.cluster.scaling.values()} == {0}


def test_an_endpoint_deleted_or_changed_by_hand_meanwhile_leaves_nothing(world: Rehearsal) -> None:
    world.serve(OLD)
    world.roll_out(CANARY, NEW)
    world.run(6)
    third = EndpointSpec(name="ep", variants=(VariantSpec(model="three", scaling=FOUR),))
    world.store.replace(world.resource, third.model_dump(mode="json"), "Updating")
    world.until("InService")
    settled(world, third)
    world.roll_out(CANARY, NEW)
    world.run(6)
    current = world.resource
    world.store.replace(current, current.document, "Deleting")
    world.run(4)
    assert world.store.find("Endpoint") == []
    assert world.cluster.models == {}


def test_new_replicas_that_were_killed_while_they_started_are_made_anew(world: Rehearsal) -> None:
    """They died without a word, which need not be the new model's fault: a few more tries before all goes back."""
    world.serve(OLD)
    world.cluster.broken = NEW.model
    new = world.roll_out(AT_ONCE, NEW)
    world.run(2)
    assert world.resource.status == "Updating"
    world.cluster.broken = ""
    world.until("InService", "RollingBack")
    settled(world, new)

"""The controller's decisions, on snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from server.beat import Beat, Phase
from server.controller.decide import TRIES, App, Delete, Deploy, Forget, Report, Seen, Step, Tried, observation, steps
from server.replicas.names import AppName, app_name
from server.spec import EndpointSpec, Scaling, VariantSpec
from server.store.store import Resource

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def endpoint(*variants: VariantSpec) -> EndpointSpec:
    return EndpointSpec(name="ep", variants=variants or (VariantSpec(model="one"),))


def resource(spec: EndpointSpec, status: str, reason: str | None = None, age_s: float = 1.0) -> Resource:
    return Resource(
        "Endpoint", spec.name, "arn", spec.model_dump(mode="json"), 1, 0, status, reason, NOW, NOW - timedelta(0, age_s)
    )


def beat(name: AppName, phase: Phase = "ready", detail: str = "") -> Beat:
    return Beat("r1", name.endpoint, name.variant, name.revision, "127.0.0.1", 1, 1, phase, detail)


def look(
    found: Resource,
    apps: Mapping[AppName, App] | None = None,
    scaled: Mapping[AppName, Scaling] | None = None,
    beats: Iterable[Beat] = (),
    settled: bool = True,
    tried: int = 1,
) -> list[Step]:
    """`tried`: how often each application was made for this generation; 0: for an earlier one."""
    times = {name: Tried(found.generation if tried else 0, max(1, tried)) for name in apps or {}}
    return steps(found, Seen(apps or {}, scaled or {}, tuple(beats), NOW, 600.0, settled, times))


def test_a_new_endpoint_is_deployed() -> None:
    spec = endpoint()
    assert look(resource(spec, "Creating")) == [Deploy(spec, spec.variants[0])]


def test_one_that_is_deploying_is_waited_for() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    assert look(resource(spec, "Creating"), {name: App("deploying")}, {name: Scaling()}, [beat(name, "loading")]) == []


def test_a_ready_replica_makes_it_in_service_once() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    apps, scaled = {name: App("running", "", 1)}, {name: Scaling()}
    assert look(resource(spec, "Creating"), apps, scaled, [beat(name)]) == [Report("InService")]
    assert look(resource(spec, "InService"), apps, scaled, [beat(name)]) == []


def test_half_of_the_replicas_is_not_in_service() -> None:
    pair = VariantSpec(model="one", scaling=Scaling(min_replicas=2, max_replicas=2))
    spec = endpoint(pair)
    name = app_name(spec, pair)
    assert look(resource(spec, "Creating"), {name: App("deploying", "", 2)}, {name: pair.scaling}, [beat(name)]) == []


def test_a_sleeping_endpoint_is_in_service() -> None:
    sleepy = VariantSpec(model="one", scaling=Scaling(min_replicas=0))
    spec = endpoint(sleepy)
    name = app_name(spec, sleepy)
    found = look(resource(spec, "Creating"), {name: App("running", "", 0)}, {name: sleepy.scaling})
    assert found == [Report("InService")]


def test_a_replica_that_must_be_there_and_is_not_is_no_sleep() -> None:
    before = VariantSpec(model="one", scaling=Scaling(min_replicas=0))
    after = before.model_copy(update={"scaling": Scaling()})
    spec = endpoint(after)
    name = app_name(spec, after)
    assert look(resource(spec, "Updating"), {name: App("running", "", 0)}, {name: after.scaling}) == []


def test_an_application_that_ray_lost_is_deployed_again() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    assert look(resource(spec, "InService"), {}, {name: Scaling()}) == [Deploy(spec, spec.variants[0])]


def test_nothing_is_reported_until_every_replica_had_time_to_beat() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    apps, scaled = {name: App("running", "", 1)}, {name: Scaling()}
    assert look(resource(spec, "Updating", age_s=601), apps, scaled, settled=False) == []
    assert look(resource(spec, "Updating", age_s=601), apps, scaled, [beat(name)], settled=False) == []
    assert look(resource(spec, "Updating", age_s=601), apps, scaled, [beat(name)]) == [Report("InService")]


def test_new_scaling_redeploys_the_same_application() -> None:
    before, after = VariantSpec(model="one"), VariantSpec(model="one", scaling=Scaling(max_replicas=4))
    spec = endpoint(after)
    name = app_name(spec, after)
    assert name == app_name(endpoint(before), before)
    found = look(resource(spec, "Updating"), {name: App("running", "", 1)}, {name: before.scaling}, [beat(name)])
    assert found == [Deploy(spec, after), Report("InService")]


@pytest.mark.parametrize("new_is_ready", [False, True])
def test_the_old_revision_stays_until_the_new_one_serves(new_is_ready: bool) -> None:
    old, new = endpoint(VariantSpec(model="one")), endpoint(VariantSpec(model="two"))
    old_name, new_name = app_name(old, old.variants[0]), app_name(new, new.variants[0])
    apps = {old_name: App("running", "", 1), new_name: App("deploying", "", 1)}
    beats = [beat(old_name), *([beat(new_name)] if new_is_ready else [])]
    found = look(resource(new, "Updating"), apps, {new_name: Scaling()}, beats)
    assert (Delete(old_name) in found) is new_is_ready


def test_a_failed_start_says_the_replicas_own_reason() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    apps = {name: App("failed", "The deployment failed to start 3 times.")}
    beats = [beat(name, "failed", "OSError: no weights")]
    found = look(resource(spec, "Creating"), apps, {name: Scaling()}, beats)
    assert found == [Report("Failed", "variant AllTraffic: OSError: no weights")]
    said = resource(spec, "Failed", "variant AllTraffic: OSError: no weights")
    assert look(said, apps, {name: Scaling()}, beats) == []


def test_replicas_that_die_without_a_word_are_started_a_few_times_more() -> None:
    """Whoever killed them, it is not the fault of who asked for the endpoint."""
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    apps, scaled = {name: App("failed", "ActorDiedError()")}, {name: Scaling()}
    for times in range(1, TRIES):
        assert look(resource(spec, "Creating"), apps, scaled, tried=times) == [Delete(name)]
    failed = [Report("Failed", "variant AllTraffic: ActorDiedError()")]
    assert look(resource(spec, "Creating"), apps, scaled, tried=TRIES) == failed
    assert look(resource(spec, "Creating", age_s=601), apps, scaled) == failed
    assert look(resource(spec, "Creating"), {}, {}) == [Deploy(spec, spec.variants[0])]


def test_an_endpoint_that_failed_and_is_asked_for_again_is_made_anew() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    apps, scaled, said = {name: App("failed", "boom")}, {name: Scaling()}, [beat(name, "failed", "OSError: no weights")]
    assert look(resource(spec, "Updating"), apps, scaled, said, tried=0) == [Delete(name)]
    reason = "variant AllTraffic: OSError: no weights"
    assert look(resource(spec, "Updating"), apps, scaled, said) == [Report("Failed", reason)]
    assert look(resource(spec, "Failed", reason), apps, scaled, said, tried=0) == []


def test_one_in_service_whose_application_ray_gave_up_is_made_anew() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    apps, scaled = {name: App("failed", "ActorDiedError()")}, {name: Scaling()}
    assert look(resource(spec, "InService"), apps, scaled, tried=TRIES) == [Delete(name)]
    assert look(resource(spec, "InService"), apps, scaled, [beat(name)], tried=TRIES) == []


def test_a_start_that_takes_too_long_fails() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    found = look(resource(spec, "Creating", age_s=601), {name: App("deploying")}, {name: Scaling()})
    assert found == [Report("Failed", "not ready within 600 s")]


def test_an_endpoint_in_service_stays_so_while_ray_replaces_a_replica() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    assert look(resource(spec, "InService"), {name: App("unhealthy", "", 1)}, {name: Scaling()}) == []


def test_deleting_removes_the_applications_and_then_the_row() -> None:
    spec = endpoint()
    name = app_name(spec, spec.variants[0])
    gone = resource(spec, "Deleting")
    assert look(gone, {name: App("running", "", 1)}) == [Delete(name)]
    assert look(gone, {name: App("deleting", "", 1)}) == []
    assert look(gone) == [Forget()]


def test_a_restarted_ray_gets_everything_again() -> None:
    spec = endpoint()
    assert look(resource(spec, "InService"), {}, {}) == [Deploy(spec, spec.variants[0])]


def test_what_cannot_be_run_fails_once_with_the_reason_and_starts_nothing() -> None:
    spec = endpoint().model_copy(update={"problem": "no such image"})
    assert look(resource(spec, "Creating")) == [Report("Failed", "no such image")]
    assert look(resource(spec, "Failed", "no such image")) == []


def test_an_observation_counts_ready_replicas_of_each_variant() -> None:
    spec = endpoint(VariantSpec(name="a", model="one"), VariantSpec(name="b", model="two", weight=2.0))
    first, second = (app_name(spec, variant) for variant in spec.variants)
    beats = (beat(first), beat(first), beat(second, "loading"))
    assert observation(resource(spec, "Creating"), Seen({}, {}, beats, NOW, 600.0)) == {
        "variants": {"a": {"replicas": 2, "weight": 1.0}, "b": {"replicas": 0, "weight": 2.0}}
    }

"""The controller's decisions about inference components, on snapshots, and a whole controller on a played cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from server.beat import Beat
from server.control import components
from server.controller.components import steps
from server.controller.decide import App, Delete, Deploy, Forget, Report, Seen, Settle
from server.edge.routes import place
from server.replicas.names import AppName, app_name
from server.spec import EndpointSpec, Rollout, Scaling, VariantSpec
from server.store.store import Resource
from tests.controller.rehearsal import Rehearsal

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def variant(copies: int = 1, model: str = "one", name: str = "base") -> VariantSpec:
    scaling = Scaling(min_replicas=copies, max_replicas=max(1, copies))
    return VariantSpec(name="AllTraffic", component=name, model=model, scaling=scaling)


def fleet(*variants: VariantSpec, **more: Any) -> EndpointSpec:
    return EndpointSpec(name="ep", variants=variants or (variant(),), **more)


def row(document: dict[str, Any], name: str, status: str, generation: int = 1) -> Resource:
    whole = {"EndpointName": "ep", "VariantName": "AllTraffic", **document}
    return Resource(components.KIND, name, "arn", whole, generation, 0, status, None, NOW, NOW - timedelta(0, 1))


def base(spec: EndpointSpec, status: str = "Creating") -> Resource:
    return row({"fleet": spec.model_dump(mode="json")}, "base", status)


def adapter(status: str = "Creating", generation: int = 1) -> Resource:
    specification = {"BaseInferenceComponentName": "base", "Container": {"ArtifactUrl": "s3://b/a"}}
    return row({"Specification": specification}, "adapter", status, generation)


def copy(number: int, adapters: dict[str, Any] | None = None, component: str = "base") -> Beat:
    revision = variant(name=component).revision
    return Beat(f"r{number}", "ep", "AllTraffic", revision, "127.0.0.1", 1, 1, "ready", component=component,
                adapters=adapters or {})  # fmt: skip


def seen(*beats: Beat, apps: dict[AppName, App] | None = None, settled: bool = True) -> Seen:
    spec = fleet()
    there = {app_name(spec, variant()): App("running", "", 1)} if apps is None else apps
    return Seen(there, {app: Scaling() for app in there}, beats, NOW, 600.0, settled)


def held(version: int = 1, error: str = "") -> dict[str, Any]:
    return {"adapter": {"version": version, "error": error}}


def test_a_component_is_a_fleet_of_its_own() -> None:
    spec = fleet()
    assert steps(base(spec), seen(apps={})) == [Deploy(spec, variant())]
    name = app_name(spec, variant())
    assert str(name) == f"hearth:ep:AllTraffic_base:{variant().revision}"
    assert AppName.parse(str(name)) == name
    assert steps(base(spec), seen(copy(1))) == [Report("InService")]
    another = seen(copy(1, component="other"), apps={app_name(spec, variant(name="other")): App("running")})
    assert steps(base(spec), another) == [Deploy(spec, variant())]


def test_no_copies_are_no_application() -> None:
    spec, name = fleet(variant(0)), app_name(fleet(), variant())
    assert steps(base(spec), seen(apps={})) == [Report("InService")]
    assert steps(base(spec, "Updating"), seen(copy(1))) == [Delete(name)]
    assert steps(base(spec, "Updating"), seen(apps={name: App("deleting")})) == []
    assert steps(base(spec, "InService"), seen(apps={})) == []


def test_a_component_that_cannot_be_run_fails_with_the_reason() -> None:
    assert steps(base(fleet(problem="no image")), seen(apps={})) == [Report("Failed", "no image")]


def test_startup_parameters_are_the_patience() -> None:
    spec = fleet(sagemaker={"StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": 60}})
    late = replace(base(spec), modified_at=NOW - timedelta(0, 61))
    assert steps(late, seen()) == [Report("Failed", "not ready within 60 s")]
    assert steps(replace(late, modified_at=NOW - timedelta(0, 59)), seen()) == []


def test_a_rollout_that_goes_back_is_still_an_update() -> None:
    new = fleet(variant(model="two"))
    spec = fleet(pending=Rollout(spec=new, asked_at=1.0))
    progress = {"stage": "reverting", "since": 2.0, "low": 0.0, "high": 1.0, "share": 0.5, "reason": "alarm"}
    going = replace(base(spec, "Updating"), observation={"rollout": {**progress, "asked_at": 1.0}})
    (told,) = [step for step in steps(going, seen(copy(1))) if isinstance(step, Report)]
    assert (told.status, "rolled back" in str(told.reason)) == ("Updating", True)
    ended = replace(going, observation={"rollout": {**progress, "stage": "reverted", "asked_at": 1.0}})
    (settled,) = [step for step in steps(ended, seen(copy(1))) if isinstance(step, Settle)]
    assert settled.document["fleet"]["variants"][0]["model"] == "one"
    assert settled.document["EndpointName"] == "ep"


@pytest.mark.parametrize(
    ("status", "copies", "expected"),
    [
        ("Creating", [held()], [Report("InService")]),
        ("Creating", [held(), {}], []),
        ("Creating", [], []),
        ("Creating", [held(error="rank"), held()], [Report("Failed", "rank")]),
        ("InService", [held(), held(error="gone")], []),
        ("InService", [held(error="gone")], [Report("Failed", "gone")]),
        ("InService", [{}], []),
        ("Failed", [held()], []),
        ("Deleting", [held()], []),
        ("Deleting", [{}], [Forget()]),
    ],
    ids=["held", "half", "starting", "broken", "late", "lost", "restarting", "failed", "going", "gone"],
)
def test_an_adapter_is_where_the_copies_say(status: str, copies: list[dict[str, Any]], expected: list[object]) -> None:
    beats = [copy(number, adapters) for number, adapters in enumerate(copies)]
    assert steps(adapter(status), seen(*beats)) == expected
    assert steps(adapter(status), replace(seen(*beats), settled=False)) == []


def test_only_the_newest_version_of_an_adapter_counts() -> None:
    assert steps(adapter("Updating", 2), seen(copy(1, held(1)))) == []
    assert steps(adapter("Updating", 2), seen(copy(1, held(2)))) == [Report("InService")]


def test_an_adapter_of_a_base_without_copies_waits_for_one_in_service() -> None:
    assert steps(adapter(), seen(apps={})) == [Report("InService")]


def test_the_whole_controller(tmp_path: Path) -> None:
    """Two components and an adapter on one endpoint: routes, statuses, and each gone when it is asked to go."""
    played = Rehearsal(tmp_path)
    host = EndpointSpec(name="ep", variants=(VariantSpec(hosts=True),))
    store = played.store
    store.create("Endpoint", "ep", host.model_dump(mode="json"), "Creating")
    played.run(1)
    assert store.get("Endpoint", "ep").status == "InService"
    for name in ("base", "other"):
        spec = fleet(variant(2 if name == "base" else 1, name, name))
        document = {**base(spec).document}
        store.create(components.KIND, name, document, "Creating")
    played.run(4)
    assert [(each.name, each.status) for each in store.find(components.KIND)] == [
        ("base", "InService"), ("other", "InService"),
    ]  # fmt: skip
    assert {b.place: len(b.servers) for b in played.edge.table.backends} == {"ep_base": 2, "ep_other": 1}
    store.create(components.KIND, "adapter", adapter().document, "Creating")
    played.run(1, killed=True)
    assert played.controller.adapters(copy(1)) == {"adapter": {"url": "s3://b/a", "version": 1}}
    assert played.controller.adapters(copy(1, component="other")) == {}
    assert played.edge.table.aliases == {
        "base": "ep_base", "other": "ep_other", "adapter": "ep_base", place("", "ep", "adapter"): "ep_base",
    }  # fmt: skip
    gone = store.get(components.KIND, "other")
    store.replace(gone, gone.document, "Deleting")
    played.run(3)
    assert [name.component for name in played.cluster.models] == ["base"]
    assert [each.name for each in store.find(components.KIND)] == ["base", "adapter"]
    asyncio.run(played.controller._publish())
    assert [backend.place for backend in played.edge.table.backends] == ["ep_base"]

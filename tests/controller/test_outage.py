"""The controller's loops outlive a store that is gone for a while, and then do what was asked for meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.beat import Beat
from server.controller import loop
from server.controller.decide import App
from server.controller.loop import Controller
from server.controller.registry import Registry
from server.edge.process import EdgeClient
from server.launch import edge_config
from server.replicas.names import AppName, app_name
from server.settings import load
from server.spec import EndpointSpec, VariantSpec
from server.store.migrate import migrate
from server.store.store import Store, connect
from tests.controller.rehearsal import HOME

SPEC = EndpointSpec(name="ep", variants=(VariantSpec(model="one"),))
PATIENCE_S = 60.0


class Cluster:
    """The seam to Ray: holds what it was given, and runs it at once."""

    held: dict[AppName, App]

    def __init__(self, _address: str) -> None:
        self.held = {}

    def apps(self) -> dict[AppName, App]:
        return dict(self.held)

    def deploy(self, _spec: Any, _variant: Any, _home: Any, name: AppName) -> None:
        self.held[name] = App("running", "", 1)

    def delete(self, name: AppName) -> None:
        del self.held[name]


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - of what other loops do
            await asyncio.sleep(0.05)


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    """One whose replicas had a lease to be heard in. No edge runs; its files tell what it would route."""
    monkeypatch.setattr(loop, "Cluster", Cluster)
    monkeypatch.setattr(loop, "TICK_S", 0.1)
    settings = load(None, {}, state_dir=tmp_path)
    settings.run_dir.mkdir()
    store = Store(connect(settings.database), settings.account, settings.region)
    migrate(store.engine)
    made = Controller(settings, store, EdgeClient(edge_config(settings)), HOME, "")
    made.registry = Registry(lambda: 0.0)
    made.registry._born = -1000.0
    yield made
    store.engine.dispose()


@contextlib.asynccontextmanager
async def running(controller: Controller) -> Any:
    task = asyncio.create_task(controller.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def beat() -> Beat:
    name = app_name(SPEC, SPEC.variants[0])
    return Beat("r1", name.endpoint, name.variant, name.revision, "127.0.0.1", 4000, 1, "ready")


async def test_both_loops_outlive_a_store_that_is_gone(controller: Controller, tmp_path: Path) -> None:
    routes = edge_config(controller.settings).table_file
    database, aside = tmp_path / "hearth.db", tmp_path / "aside.db"
    controller.store.create("Endpoint", "ep", SPEC.model_dump(mode="json"), "Creating")
    controller.store.engine.dispose()
    database.rename(aside)
    database.mkdir()  # cannot be opened
    async with running(controller) as task:
        await asyncio.sleep(1.0)
        assert not task.done()
        assert not routes.exists()
        database.rmdir()
        aside.rename(database)
        await eventually(lambda: controller._cluster is not None and controller._cluster.apps())
        controller.registry.hear(beat())
        await eventually(lambda: controller.store.get("Endpoint", "ep").status == "InService")
        (backend,) = json.loads(routes.read_text())["backends"]
        assert [server["port"] for server in backend["servers"]] == [4000]


async def test_in_service_is_said_when_the_edge_has_the_routes(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who waits for it and then asks could meet the old ones."""
    published: list[str] = []
    apply = controller.edge.apply

    def applied(table: Any) -> Any:
        published.append(controller.store.get("Endpoint", "ep").status)
        return apply(table)

    monkeypatch.setattr(controller.edge, "apply", applied)
    monkeypatch.setattr(controller, "_publish_forever", lambda: asyncio.sleep(PATIENCE_S))
    controller.store.create("Endpoint", "ep", SPEC.model_dump(mode="json"), "Creating")
    async with running(controller):
        await eventually(lambda: controller._cluster is not None and controller._cluster.apps())
        controller.registry.hear(beat())
        await eventually(lambda: controller.store.get("Endpoint", "ep").status == "InService")
    assert published == ["Creating"]
    assert controller.has_route("ep")

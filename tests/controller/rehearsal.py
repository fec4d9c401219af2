"""A controller on a cluster, an edge and a clock that are played: everything but Ray and HAProxy is real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event

from server.beat import LEASE_S, Beat
from server.controller.decide import App
from server.controller.loop import Controller
from server.controller.registry import Registry
from server.controller.rollout import Progress, recall
from server.edge.routes import RouteTable
from server.replicas.names import AppName, app_name
from server.replicas.plan import Home
from server.settings import Settings
from server.spec import EndpointSpec, Rollout, Scaling, Strategy, VariantSpec
from server.store import alarms
from server.store.migrate import migrate
from server.store.store import Resource, Store, connect

NAME = "ep"
HOME = Home(
    beat_url="", token="", bind_host="127.0.0.1", account="", region="", drain_timeout_s=1.0, log_level="INFO",
    log_dir="", sampler=False, cache_dir="", objects_dir="", objects_url=None, database_url="", master_key_file="",
)  # fmt: skip


class Killed(BaseException):
    """The controller is killed while it does its work."""


@dataclass
class Cluster:
    """Ray Serve, played: replicas of what is deployed come one a second and go at once."""

    scaling: dict[AppName, Scaling] = field(default_factory=dict)
    replicas: dict[AppName, int] = field(default_factory=dict)
    broken: str | None = None
    """A model whose replicas cannot start: they fail."""
    hanging: str | None = None
    """A model whose replicas never get ready."""
    models: dict[AppName, str] = field(default_factory=dict)

    refused: str | None = None
    """A model whose application Ray Serve does not take."""
    calls: int = 0
    dies_at: int | None = None
    """The number of the call at which the controller is killed, before the call is made."""

    def deploy(self, _spec: EndpointSpec, variant: VariantSpec, _home: object, name: AppName) -> None:
        self._count()
        if variant.model == self.refused:
            raise ValueError("no such option")
        self.scaling[name], self.models[name] = variant.scaling, variant.model
        self.replicas.setdefault(name, 0)

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise Killed

    def delete(self, name: AppName) -> None:
        self._count()
        for table in (self.scaling, self.replicas, self.models):
            table.pop(name, None)

    def apps(self) -> dict[AppName, App]:
        return {
            name: App("failed", "no weights", 0) if model == self.broken else App("running", "", self.replicas[name])
            for name, model in self.models.items()
        }

    def live(self) -> None:
        for name, model in self.models.items():
            if model not in (self.broken, self.hanging):
                self.replicas[name] = min(self.replicas[name] + 1, self.scaling[name].min_replicas)

    def beats(self) -> list[Beat]:
        names = list(self.models)
        return [
            Beat(
                f"{name}/{n}",
                name.endpoint,
                name.variant,
                name.revision,
                "127.0.0.1",
                1000 * (k + 1) + n,
                1,
                "ready",
                account=name.account,
                component=name.component,
            )
            for k, name in enumerate(names)
            for n in range(self.replicas[name])
        ]


class Edge:
    """Keeps the table that was applied last."""

    table = RouteTable()

    def apply(self, table: RouteTable) -> str:
        self.table = table
        return "runtime"

    def shares(self, variant: str = "AllTraffic") -> Mapping[str, float]:
        """The part of a variant's traffic that each revision gets."""
        (backend,) = [b for b in self.table.backends if b.variant == variant]
        total = sum(server.share for server in backend.servers)
        found: dict[str, float] = {}
        for server in backend.servers:
            revision = str(AppName.parse(server.id.partition("/")[0])).split(":")[-1]
            found[revision] = found.get(revision, 0.0) + server.share / total
        return found


def _no_sync(connection: Any, _record: Any) -> None:
    """No power fails in a rehearsal; a second of it must not take one."""
    connection.execute("PRAGMA synchronous=OFF")


class Rehearsal:
    """One endpoint and the controller of it."""

    def __init__(self, folder: Path) -> None:
        engine = connect(f"sqlite:///{folder / 'hearth.db'}")
        event.listen(engine, "connect", _no_sync)
        migrate(engine)
        self.store = Store(engine, "123456789012", "us-east-1")
        self.cluster, self.edge, self.now = Cluster(), Edge(), time.time()
        self.settings = Settings(state_dir=folder, start_timeout_s=60)
        self.controller = self.born()

    def born(self) -> Controller:
        """A controller that has just started, and heard every replica."""
        made = Controller(self.settings, self.store, self.edge, HOME, "", self.clock)  # type: ignore[arg-type]
        made.registry = Registry(lambda: self.now)
        made.registry._born = self.now - LEASE_S - 1
        made._cluster = self.cluster  # type: ignore[assignment]
        return made

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def tick(self, *, killed: bool = False) -> None:
        """One second."""
        self.now += 1.0
        self.cluster.live()
        if killed:
            self.controller = self.born()
        registry = self.controller.registry
        registry._beats.clear()
        for beat in self.cluster.beats():
            registry.hear(beat)
        try:
            await self.controller._reconcile()
            await self.controller._publish()
        except Killed:
            self.controller = self.born()

    def run(self, seconds: int, *, killed: bool = False) -> None:
        async def ticks() -> None:
            for _ in range(seconds):
                await self.tick(killed=killed)

        asyncio.run(ticks())

    def until(self, *statuses: str, limit: int = 400, killed: bool = False) -> list[Progress]:
        """Goes on until the endpoint has one of the statuses; the progress of each second."""
        seen: list[Progress] = []
        for _ in range(limit):
            progress = self.second(killed=killed)
            if self.resource.status in statuses:
                return seen
            seen += [progress] if progress is not None else []
        raise AssertionError((self.resource.status, seen[-1:]))

    def second(self, *, killed: bool = False) -> Progress | None:
        """One second, in which somebody must be there to answer; how far the rollout is, if there is one."""
        self.run(1, killed=killed)
        assert all(backend.servers for backend in self.edge.table.backends)
        found = self.resource
        pending = EndpointSpec.model_validate(found.document).pending
        return None if pending is None else recall(pending, found.observation)

    @property
    def resource(self) -> Resource:
        return self.store.get("Endpoint", NAME)

    def told(self) -> str:
        """The reason that the endpoint gives, if any."""
        return self.resource.reason or ""

    def serve(self, *variants: VariantSpec) -> EndpointSpec:
        spec = EndpointSpec(name=NAME, variants=variants, sagemaker={"EndpointConfigName": "old"})
        self.store.create("Endpoint", NAME, spec.model_dump(mode="json"), "Creating")
        for _ in range(60):
            self.run(1)
            if self.resource.status == "InService":
                return spec
        raise AssertionError(self.resource)

    def roll_out(self, strategy: Strategy, *variants: VariantSpec) -> EndpointSpec:
        """What UpdateEndpoint writes."""
        current = self.resource
        new = EndpointSpec(name=NAME, variants=variants, sagemaker={"EndpointConfigName": "new"})
        rollout = Rollout(spec=new, strategy=strategy, asked_at=self.now)
        old = EndpointSpec.model_validate(current.document)
        document = old.model_copy(update={"pending": rollout}).model_dump(mode="json")
        self.store.replace(current, document, "Updating")
        return new

    def alarm(self, name: str) -> Any:
        return self.store.create(alarms.KIND, name, {"AlarmName": name}, "OK", arn=f"arn:{name}")

    def apps(self, spec: EndpointSpec) -> set[AppName]:
        return {app_name(spec, variant) for variant in spec.variants}

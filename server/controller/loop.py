"""The controller's two loops.

*Reconcile* reads the store, looks at Ray Serve, takes the steps that `decide` names and writes what became
of them. *Publish* brings the edge's routes in line with the replicas that beat; it needs no Ray, so routes
follow the replicas even while Ray restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from server.beat import Beat
from server.control import components as parts
from server.control.instances import Machine
from server.controller.alarms import Alarms, rung
from server.controller.capture import CaptureConfigs
from server.controller.captures import Captures
from server.controller.cluster import Cluster
from server.controller.components import decider
from server.controller.decide import App, Delete, Deploy, Forget, Report, Seen, Settle, Step, Tried
from server.controller.experiments import Experiments
from server.controller.meter import Meter
from server.controller.publish import route_table
from server.controller.registry import Registry
from server.controller.scaler import Scaler
from server.controller.shadows import Shadows
from server.controller.tenants import home_of, living, tenant, within
from server.edge.process import EdgeClient, EdgeError
from server.edge.routes import RouteTable, place
from server.errors import Conflict, Unavailable
from server.replicas.names import AppName, app_name
from server.replicas.plan import Home
from server.settings import Settings
from server.shadow import reports
from server.spec import EndpointSpec, Scaling
from server.store.quotas import Defaults
from server.store.store import Resource, Store, everywhere

log = structlog.get_logger(__name__)

KIND = "Endpoint"
TICK_S = 1.0
CALL_TIMEOUT_S = 60.0
"""Bound on one call to Ray; a cluster that does not answer for this long is connected to anew."""

Result = TypeVar("Result")


def utc_now() -> datetime:
    return datetime.now(UTC)


class Controller:
    """State of one controller process; everything in it can be rebuilt from store, Ray and beats."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        edge: EdgeClient,
        home: Home,
        address: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.settings = settings
        self.store = store
        self.edge = edge
        self.home = home
        self.registry = Registry()
        self.meter = Meter(store)
        self.alarms = Alarms(store)
        self.scaler = Scaler(store, settings.start_timeout_s, limits=Defaults.of(settings))
        self.shadows = Shadows(store, Captures(settings), settings.account)
        self.captures = CaptureConfigs(settings.account)
        self.experiments = Experiments(
            store, Machine.here(settings.reserve_instances), limits=Defaults.of(settings)
        )
        self.table: RouteTable | None = None
        self.published = asyncio.Condition()
        self._publishing = asyncio.Lock()
        self.waiting: dict[str, int] = {}
        self.woken = asyncio.Event()
        self._wanted_awake: set[AppName] = set()
        self._known: frozenset[AppName] = frozenset()
        """Applications that were there at the last look."""
        self._scaled: dict[AppName, Scaling] = {}
        self._tried: dict[AppName, Tried] = {}
        self._adapters: Mapping[tuple[str, str], parts.Wanted] | None = None
        """By account and base component; None: not looked yet."""
        self._address = address
        self._clock = clock
        self._cluster: Cluster | None = None

    async def run(self) -> None:
        """Runs until a loop fails for good; the supervisor then starts the process anew."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish_forever())
            tasks.create_task(self._reconcile_forever())
            tasks.create_task(self.meter.roll_up_forever())
            tasks.create_task(self.alarms.watch_forever())
            tasks.create_task(self.scaler.watch_forever())
            tasks.create_task(self.shadows.flush_forever(self._living))
            tasks.create_task(self.experiments.watch_forever())

    def routed(self, replica_id: str) -> bool:
        """Whether the edge may still send requests to this replica."""
        table = self.table
        return table is None or any(s.id == replica_id for backend in table.backends for s in backend.servers)

    def _living(self) -> set[str] | None:
        """Ids of the replicas that are there; None until all of them were heard."""
        return {beat.replica_id for beat in self.registry.beats()} if self.registry.settled else None

    def has_route(self, endpoint: str, account: str = "", component: str = "") -> bool:
        table, where = self.table, place(account, endpoint, component)
        return table is not None and any(backend.servers for backend in table.backends if backend.place == where)

    def adapters(self, beat: Beat) -> parts.Wanted | None:
        """The adapters that a replica is to hold; None while that is not known."""
        base = beat.account or self.settings.account, beat.component
        return None if self._adapters is None else self._adapters.get(base, {})

    def wake(self, resource: Resource) -> None:
        """Has every variant of an endpoint that takes traffic start at least one replica."""
        spec = EndpointSpec.model_validate(resource.document)
        account = self._tenant(resource)
        self._wanted_awake |= {app_name(spec, variant, account) for variant in spec.variants if variant.weight > 0}
        self.woken.set()

    async def _publish_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.registry.changed.wait(), TICK_S)
            self.registry.changed.clear()
            for beat in self.registry.drop_silent():
                _tell_gone(beat)
            if self.registry.settled:
                with self._trying_again():
                    await self._publish()

    async def _publish(self) -> None:
        async with self._publishing:
            accounts, resources = await asyncio.to_thread(living, self.store, KIND)
            components = await self._components(accounts)
            await asyncio.to_thread(self.shadows.look, resources)
            self.captures.look(resources)
            # Where nobody is asked, all are the own account.
            tenants = accounts[1:] if self.settings.authenticates else ()
            table = route_table(
                resources, self.registry, self.settings.default_endpoint, self.settings.account, tenants, components
            )  # fmt: skip
            outcome = await asyncio.to_thread(self.edge.apply, table)
            if outcome != "unchanged":
                log.info("routes published", how=outcome, servers=sum(len(b.servers) for b in table.backends))
            self.table = table
        async with self.published:
            self.published.notify_all()

    @contextlib.contextmanager
    def _trying_again(self) -> Iterator[None]:
        """A round that the store or the edge broke is left where it is; the next one begins anew."""
        try:
            yield
        except (Unavailable, EdgeError) as error:
            log.warning("round broken off", error=str(error))

    async def _reconcile_forever(self) -> None:
        self._cluster = await self._bounded(Cluster, self._address)
        while True:
            self.woken.clear()  # what is asked for from now on makes another round
            await self._wake_up()  # first: somebody waits
            with self._trying_again():
                await self._reconcile()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), TICK_S)

    async def _reconcile(self) -> None:
        cluster = self._cluster
        assert cluster is not None
        accounts, resources = await asyncio.to_thread(living, self.store, KIND)
        components = await self._components(accounts)
        apps = await self._bounded(cluster.apps)
        for account in accounts:
            own = [resource for resource in (*resources, *components) if resource.account == account]
            seen = await self._seen(account, own, apps)
            for resource in own:
                sight = seen.on("") if resource.kind == KIND else seen
                await self._bring_closer(await self._observed(resource, sight), sight, cluster)
        there = {(self._tenant(each), *parts.address(each)) for each in (*resources, *components)}
        for name in [name for name in apps if (name.account, name.endpoint, name.component) not in there]:
            await self._bounded(cluster.delete, name)
            self._scaled.pop(name, None)
        self._known = frozenset(apps)

    async def _components(self, accounts: Sequence[str]) -> list[Resource]:
        """Those of the accounts; what adapters their replicas are to hold follows from them."""
        every = await asyncio.to_thread(everywhere, self.store, parts.KIND)
        self._adapters = parts.wanted_adapters(every)
        return [component for component in every if component.account in accounts]

    async def _wake_up(self) -> None:
        """Wakes what was asked for and is there; what is not there yet starts a replica when it is deployed."""
        wanted, self._wanted_awake = self._wanted_awake, set()
        for name in wanted & self._known:
            assert self._cluster is not None
            await self._bounded(self._cluster.wake, name)

    async def _seen(self, account: str, resources: list[Resource], apps: Mapping[AppName, App]) -> Seen:
        """What there is of one account."""
        now, mark = self._clock(), tenant(account, self.settings.account)
        fleets = [parts.as_endpoint(each) if parts.is_base(each) else each for each in resources]
        alarmed = await asyncio.to_thread(rung, self.store.of(account), fleets, now.timestamp())
        return Seen(
            within(apps, mark), within(self._scaled, mark), self.registry.within(mark).beats, now,
            self.settings.start_timeout_s, self.registry.settled, within(self._tried, mark), alarmed,
        )  # fmt: skip

    def _tenant(self, resource: Resource) -> str:
        return tenant(resource.account, self.settings.account)

    def _store(self, resource: Resource) -> Store:
        return self.store.of(resource.account)

    async def _observed(self, resource: Resource, seen: Seen) -> Resource:
        """`resource` with what is there now, on disk before anything is done about it."""
        now = decider(resource).observation(resource, seen)
        if now == resource.observation or not seen.settled:
            return resource
        await asyncio.to_thread(self._store(resource).observe, resource, now)
        self.registry.changed.set()  # a rollout may have moved traffic
        return replace(resource, observation=now)

    async def _bring_closer(self, resource: Resource, seen: Seen, cluster: Cluster) -> None:
        for step in decider(resource).steps(resource, seen):
            try:
                await self._take(resource, step, cluster, seen.apps)
            except (ValueError, TypeError) as error:
                # One endpoint that Ray Serve will not take must not stop the others.
                log.exception("step refused", endpoint=resource.arn)
                if (back := decider(resource).refused(resource, str(error), seen)) is not None:
                    await asyncio.to_thread(self._store(resource).observe, resource, back)
                else:
                    await asyncio.to_thread(self._store(resource).report, resource, "Failed", str(error))
                break

    async def _take(self, resource: Resource, step: Step, cluster: Cluster, apps: Mapping[AppName, App]) -> None:
        account, store = self._tenant(resource), self._store(resource)
        match step:
            case Deploy(spec, variant):
                plain = app_name(spec, variant)
                name = replace(plain, account=account)
                log.info("deploying", endpoint=spec.name, variant=variant.name, revision=variant.revision)
                home = await asyncio.to_thread(home_of, self.home, resource, self.settings.account)
                await self._bounded(cluster.deploy, spec, variant, home, name)
                if plain not in apps:
                    self._tried[name] = Tried.again(self._tried.get(name), resource.generation)
                self._scaled[name] = variant.scaling
            case Delete(plain):
                app = replace(plain, account=account)
                log.info("removing", endpoint=app.endpoint, variant=app.variant, revision=app.revision)
                await self._bounded(cluster.delete, app)
                self._scaled.pop(app, None)
            case Report(status, reason):
                if status == "InService":
                    await self._publish()  # who reads InService and asks at once must meet the new routes
                log.info("status", endpoint=resource.name, status=status, reason=reason)
                await asyncio.to_thread(store.report, resource, status, reason)
            case Settle(document, reason):
                await self._publish()
                log.info("rollout over", endpoint=resource.name, reason=reason)
                with contextlib.suppress(Conflict):
                    await asyncio.to_thread(store.replace, resource, document, "InService", reason=reason)
            case Forget():
                with contextlib.suppress(Conflict):
                    await asyncio.to_thread(store.remove, resource)
                    if resource.kind == KIND:
                        await asyncio.to_thread(reports.forget, store, endpoint=resource.name)
                key = (account, resource.name)
                self._tried = {
                    name: tried for name, tried in self._tried.items()
                    if (name.account, name.component or name.endpoint) != key
                }  # fmt: skip

    async def _bounded(self, call: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.wait_for(asyncio.to_thread(call, *arguments), CALL_TIMEOUT_S)


def _tell_gone(beat: Beat) -> None:
    """A replica that was ending has ended; any other was lost."""
    named = {"endpoint": beat.endpoint, "variant": beat.variant, "replica": beat.replica_id}
    if beat.phase in ("draining", "failed"):
        log.info("replica gone", phase=beat.phase, **named)
    else:
        log.warning("replica lost", phase=beat.phase, **named)

"""The Ray Serve deployment class: one replica of one variant.

Ray Serve decides where it runs, whether it lives and how many there are; requests reach its own
listener straight from the edge.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
import structlog

from server import logs
from server.audit.sampling import Sampled
from server.beat import Beat, Phase
from server.capture.capturing import Capturing
from server.dialects.application import dialect_app
from server.dialects.identity import Identity
from server.guard.caching.cache import ResponseCache
from server.guard.gate import Gate
from server.guard.metrics import Metrics
from server.guard.middleware import Guard
from server.guard.rates import Rates
from server.identity.authority import Authority
from server.identity.judge import Judge
from server.prefork.starter import START
from server.replicas import runtimes, usage
from server.replicas.adapters import Adapters, Loader
from server.replicas.artifacts import Artifacts
from server.replicas.heart import Heart
from server.replicas.listener import Listener
from server.replicas.output import keep_open, redirect
from server.replicas.plan import Plan
from server.replicas.scaling import IN_FLIGHT
from server.replicas.vllm_plugin import REPLICA
from server.settings import environment
from server.shadow.charged import Charged
from server.shadow.copier import Copier
from server.shadow.seal import Seal

log = structlog.get_logger(__name__)

UNROUTED_WITHIN_S = 5.0
"""How long a stopping replica waits to be taken off the routes before it drains all the same."""

DRAIN_LOOK_S = 0.05

SERVE_LOGGER = "ray.serve"


class Replica:
    """Loads a model, listens, beats; when stopped, leaves the routes, finishes what is in flight and ends."""

    async def __init__(self, plan: Plan) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        self.plan = plan
        self.replica_id = uuid.uuid4().hex[:12]
        redirect(Path(plan.home.log_dir), plan.endpoint, plan.variant.name, self.replica_id)
        keep_open(SERVE_LOGGER)
        logs.configure("replica", plan.home.log_level)
        self.started_at = time.time()
        began, how = psutil.Process().create_time(), environment().get(START, "cold: not asked for")
        log.info("replica starts", replica=self.replica_id, process_began=began, began=self.started_at, start=how)
        os.environ[REPLICA] = str(os.getpid())
        if plan.home.python is not None:
            multiprocessing.set_executable(plan.home.python)
        self.phase: Phase = "loading"
        named = plan.variant.containers or (plan.variant,)
        self.detail = f"loading {', '.join(each.model for each in named)}"
        self.host = plan.home.bind_host or ray.util.get_node_ip_address()
        self.port = 0
        self.runtime: runtimes.Runtime | None = None
        self.guard: Guard | None = None
        self.listener = Listener()
        self.watching: asyncio.Task[None] | None = None
        self.metrics = Metrics(plan.endpoint, plan.variant.name)
        self.metrics.started(warm=how == "warm")
        self.artifacts = Artifacts(Path(plan.home.cache_dir), plan.home.storage)
        self.adapters = Adapters(self.artifacts)
        self.wanted: Mapping[str, Any] = {}
        self.adapting: asyncio.Task[None] | None = None
        self.identity = Identity(
            endpoint=plan.endpoint,
            variant=plan.variant.name,
            replica_id=self.replica_id,
            account=plan.home.account,
            region=plan.home.region,
            component=plan.variant.component,
            adapters=self.adapters.names,
        )
        self.gate = Gate(Authority(), Judge(), self.identity)
        self.sampled = Sampled(plan.home.audit_data_share)
        self.charged = Charged(lambda: self.runtime.used() if self.runtime else 0)
        self.rates = Rates(self.charged)
        self.seal = Seal(plan.home.token, plan.endpoint, plan.home.account)
        self.copier = Copier(self.seal, plan.endpoint, nodes=plan.home.nodes)
        self.capturing = Capturing(plan.home.storage, plan.endpoint, plan.variant.name)
        self.heart = Heart(
            plan.home, self._beat, self.metrics.periods, self.sampled, self.gate, self.copier, self.rates,
            self.charged, self.capturing, self._adapt if plan.variant.component else None,
        )  # fmt: skip
        try:
            await self._start()
        except BaseException as error:
            self.phase, self.detail = "failed", f"{type(error).__name__}: {error}"[:2000]
            await self.heart.say()
            await self.heart.stop()
            raise

    async def _start(self) -> None:
        plan = self.plan
        runtime = await self.listener.call(
            lambda: runtimes.start(plan.endpoint, plan.variant, self.artifacts, plan.home, self.metrics.periods)
        )
        self.runtime = runtime
        app = dialect_app(runtime.engines, self.identity, plan.variant.limits, runtime.alive)
        opaque = runtime.engines.payload is not None
        self.guard = Guard(
            app, self.identity, plan.variant.limits, self.metrics, self.gate, opaque=opaque, sampled=self.sampled,
            capacity=runtime.engines.capacity, rates=self.rates, copying=self.copier, seal=self.seal,
            capturing=self.capturing,
            cache=ResponseCache.of(plan.variant, runtime.engines, self.identity, self.metrics, self.capturing),
        )  # fmt: skip
        await self.heart.know()
        self._adapt(self.wanted)
        if self.adapting is not None:
            await self.adapting  # no request comes for an adapter that is not here yet
        self.port = await self.listener.serve(self.guard, self.host, plan.home.nodes)
        self.phase, self.detail = "ready", ""
        self.watching = asyncio.create_task(usage.watch(self.metrics.periods))
        self.heart.beat_now()
        log.info("replica ready", replica=self.replica_id, port=self.port, seconds=time.time() - self.started_at)

    def _beat(self) -> Beat:
        if self.guard is not None:
            self.metrics.periods.record("ConcurrentRequestsPerModel", self.guard.in_flight)
        return Beat(
            replica_id=self.replica_id,
            endpoint=self.plan.endpoint,
            variant=self.plan.variant.name,
            revision=self.plan.variant.revision,
            host=self.host,
            port=self.port,
            pid=os.getpid(),
            phase=self.phase,
            detail=self.detail,
            in_flight=self.guard.in_flight if self.guard else 0,
            requests_total=self.guard.requests_total if self.guard else 0,
            tokens_total=self.runtime.tokens() if self.runtime else 0,
            started_at=self.started_at,
            account=self.plan.home.tenant,
            component=self.plan.variant.component,
            adapters=self.adapters.to_wire(),
        )

    def _adapt(self, wanted: Mapping[str, Any]) -> None:
        """Sees to it that these adapters are held, once there is an engine, and tells what became of them."""
        runtime, self.wanted = self.runtime, wanted
        idle = self.adapting is None or self.adapting.done()
        if runtime is not None and idle and self.adapters.lacks(wanted):
            self.adapting = asyncio.create_task(self._hold(runtime.adapters, wanted))

    async def _hold(self, loader: Loader, wanted: Mapping[str, Any]) -> None:
        await self.listener.call(lambda: self.adapters.hold(loader, wanted))
        self.heart.beat_now()

    async def wake(self) -> None:
        """Called through a Serve handle: scales the deployment up from zero, and returns once one is ready."""

    async def check_health(self) -> None:
        """Raises when the engine is dead, so that Ray Serve replaces this replica."""
        if self.runtime is not None and not self.runtime.alive():
            raise RuntimeError("the engine is dead")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return {IN_FLIGHT: float(self.guard.in_flight if self.guard else 0)}

    async def __del__(self) -> None:
        self.phase = "draining"
        await self._leave_routes()
        await self._finish_requests()
        runtime = self.runtime

        async def cleanup() -> None:
            if runtime is not None:
                await runtime.stop()

        if self.watching is not None:
            self.watching.cancel()
        await self.copier.stop()
        await asyncio.to_thread(self.capturing.stop)
        await self.heart.say(last=True)
        await self.heart.stop()
        await self.listener.stop(cleanup)

    async def _leave_routes(self) -> None:
        deadline = time.monotonic() + UNROUTED_WITHIN_S
        # The answer is the controller's: there is no event to wait for.
        while await self.heart.say() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_LOOK_S)

    async def _finish_requests(self) -> None:
        deadline = time.monotonic() + self.plan.home.drain_timeout_s
        while self._in_flight() and time.monotonic() < deadline:  # noqa: ASYNC110 - counted on another loop
            await asyncio.sleep(DRAIN_LOOK_S)
        if self._in_flight():
            log.warning("stopped with requests in flight", count=self._in_flight())

    def _in_flight(self) -> int:
        return self.guard.in_flight if self.guard else 0

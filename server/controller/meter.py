"""What replicas measure goes into the store as SageMaker's CloudWatch metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.beat import Beat
from server.errors import NotFound, Unavailable
from server.metrics.distribution import Distribution
from server.metrics.periods import PERIOD_S
from server.metrics.series import MetricStore, Point, roll_up
from server.store.store import Store

log = structlog.get_logger(__name__)

NAMESPACE = "AWS/SageMaker"
UTILIZATION = "/aws/sagemaker/Endpoints"
UNITS: Mapping[str, tuple[str, str]] = {
    "ModelLatency": (NAMESPACE, "Microseconds"),
    "OverheadLatency": (NAMESPACE, "Microseconds"),
    "FirstChunkLatency": (NAMESPACE, "Microseconds"),
    "ModelLoadingWaitTime": (NAMESPACE, "Microseconds"),
    "ModelLoadingTime": (NAMESPACE, "Microseconds"),
    "ModelUnloadingTime": (NAMESPACE, "Microseconds"),
    "ModelDownloadingTime": (NAMESPACE, "Microseconds"),
    "ModelCacheHit": (NAMESPACE, "None"),
    "LoadedModelCount": (NAMESPACE, "None"),
    "CPUUtilization": (UTILIZATION, "Percent"),
    "MemoryUtilization": (UTILIZATION, "Percent"),
}
"""Namespace and unit of the metrics that are no counts."""
PER_COPY: Mapping[str, str] = {
    "InvocationsPerInstance": "InvocationsPerCopy", "ConcurrentRequestsPerModel": "ConcurrentRequestsPerCopy",
}  # fmt: skip
"""What the metrics of a replica are called of an inference component."""
ROLL_UP_S = 300.0


def measured(beat: Beat, periods: Sequence[Mapping[str, Any]]) -> list[Point]:
    """A replica's measurements as points. Raises ValueError, TypeError or KeyError for what are none."""
    return list(_points(beat, periods))


def _points(beat: Beat, periods: Sequence[Mapping[str, Any]]) -> Iterator[Point]:
    dimensions = {"EndpointName": beat.endpoint, "VariantName": beat.variant}
    for period in periods:
        for name, wire in period["metrics"].items():
            namespace, unit = UNITS.get(name, (NAMESPACE, "Count"))
            values = Distribution.from_wire(wire)
            yield Point(namespace, name, dimensions, unit, int(period["start"]), PERIOD_S, beat.replica_id, values)


def per_instance(points: Sequence[Point], instances: int) -> Iterator[Point]:
    """InvocationsPerInstance: for each request one over the number of replicas. Unlike on AWS a replica that had
    no request says so with a zero, so that a policy sees that a variant is idle."""
    for start in {point.start for point in points}:
        counted = [p for p in points if p.start == start and p.name in ("Invocations", "ConcurrentRequestsPerModel")]
        if counted:
            requests = sum(point.values.count for point in counted if point.name == "Invocations")
            values = Distribution()
            values.add(1 / max(1, instances) if requests else 0.0, requests or 1.0)
            yield replace(counted[0], name="InvocationsPerInstance", values=values)


def per_copy(points: Sequence[Point], component: str) -> Iterator[Point]:
    """All that was measured of an inference component's copy, under the component's own name, and per copy in
    SageMaker's words."""
    for point in points:
        own = replace(point, dimensions={"InferenceComponentName": component})
        yield own
        if name := PER_COPY.get(point.name):
            yield replace(own, name=name)


def utilization(points: Sequence[Point], instances: int, document: Mapping[str, Any]) -> Iterator[Point]:
    """ServerlessProvisionedConcurrencyUtilization: requests in flight per provisioned one. Each replica says what it
    would be were all as busy as itself, so that the average over them is that of the variant."""
    variants = document.get("sagemaker", {}).get("Variants", {})
    for point in points:
        config = variants.get(point.dimensions["VariantName"], {}).get("ServerlessConfig") or {}
        provisioned = config.get("ProvisionedConcurrency")
        if provisioned and point.name == "ConcurrentRequestsPerModel":
            share, seen = max(1, instances) / provisioned, point.values
            values = Distribution.summary(seen.count, seen.total * share, seen.minimum * share, seen.maximum * share)
            yield replace(point, name="ServerlessProvisionedConcurrencyUtilization", unit="None", values=values)


class Meter:
    """Keeps points, each in the region of its endpoint, and makes fewer of them as they age."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(
        self, account: str, endpoint: str, points: Sequence[Point], instances: int, component: str = ""
    ) -> bool:
        """False when the store could not take them; the replica then sends them again. `account`: empty for this
        Hearth's own. `instances`: how many replicas its variant, or its `component`, has."""
        store = self._store.of(account) if account else self._store
        try:
            await asyncio.to_thread(_keep, store, endpoint, points, instances, component)
        except (SQLAlchemyError, Unavailable) as error:
            log.warning("measurements not kept", endpoint=endpoint, error=type(error).__name__)
            return False
        return True

    async def roll_up_forever(self) -> None:
        while True:
            await asyncio.sleep(ROLL_UP_S)
            try:
                went = await asyncio.to_thread(roll_up, self._store.engine, time.time())
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("measurements not rolled up", error=type(error).__name__)
            else:
                log.debug("measurements rolled up", points=went)


def _keep(store: Store, endpoint: str, points: Sequence[Point], instances: int, component: str) -> None:
    document: Mapping[str, Any] = {}
    try:
        resource = store.get("Endpoint", endpoint)
    except NotFound:
        region = store.region
    else:
        region, document = resource.region, resource.document
    every = [*points, *per_instance(points, instances), *utilization(points, instances, document)]
    if component:
        every += list(per_copy(every, component))
    MetricStore(store.engine, store.account, region).add(every)

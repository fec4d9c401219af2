"""What an account's endpoints may be, by its quotas: asked by every call that wants more of them."""

from __future__ import annotations

import math

from sqlalchemy import select

from server.control.components import KIND as COMPONENT
from server.errors import LimitExceeded
from server.spec import EndpointSpec
from server.store import quotas
from server.store.quotas import ENDPOINTS, INSTANCES, Defaults, Quota
from server.store.store import Store
from server.store.tables import ResourceRow


def instances(spec: EndpointSpec) -> int:
    """Replicas that an endpoint may come to have: the upper ends of its variants' ranges, and those of what is being
    rolled out beside it, all of them or as many as one step of a rolling update adds."""
    if spec.problem is not None:
        return 0
    if any(variant.component for variant in spec.variants) and not spec.variants[0].scaling.min_replicas:
        return 0  # no copies of an inference component, and none wakes
    total = sum(variant.scaling.max_replicas for variant in spec.fleet)
    if spec.pending is None:
        return total
    new, strategy = instances(spec.pending.spec), spec.pending.strategy
    if not strategy.rolling:
        return total + new - _shared(spec, spec.pending.spec)
    steps = zip((0.0, *strategy.shares), strategy.shares, strict=False)
    return max(total, new) + math.ceil(max(after - before for before, after in steps) * new)


def _shared(one: EndpointSpec, other: EndpointSpec) -> int:
    """Replicas that are of both: a variant that stays as it is, while another, or a shadow, comes or goes."""
    there = {(variant.name, variant.revision): variant.scaling.max_replicas for variant in one.fleet}
    return sum(
        min(variant.scaling.max_replicas, there.get((variant.name, variant.revision), 0)) for variant in other.fleet
    )


def check_endpoint(store: Store, defaults: Defaults, was: EndpointSpec | None, spec: EndpointSpec) -> None:
    """Asked in the transaction that has written `spec` in place of `was`. Raises LimitExceeded in SageMaker's words."""
    if was is None:
        _check(store, defaults, ENDPOINTS, 1)
    if (delta := instances(spec) - (0 if was is None else instances(was))) > 0:
        _check(store, defaults, INSTANCES, delta)


def check_component(store: Store, defaults: Defaults, was: EndpointSpec | None, spec: EndpointSpec) -> None:
    """As for an endpoint: copies of inference components are replicas too. Raises LimitExceeded."""
    if (delta := instances(spec) - (0 if was is None else instances(was))) > 0:
        _check(store, defaults, INSTANCES, delta)


def check_capacity(store: Store, defaults: Defaults, endpoint: EndpointSpec, variant: str, most: int) -> None:
    """Raises LimitExceeded where `variant` could never have `most` replicas beside all others that there are."""
    now = next((each.scaling.max_replicas for each in endpoint.fleet if each.name == variant), 0)
    if most > now:
        _check(store, defaults, INSTANCES, most - now, written=False)


def _check(store: Store, defaults: Defaults, quota: Quota, delta: int, *, written: bool = True) -> None:
    limit = quotas.limit(store, defaults, quota)
    if limit is None:
        return
    with store.session() as session:
        quotas.alone(session, store.account)
        endpoints, parts = (
            session.scalars(
                select(ResourceRow.document).where(ResourceRow.account == store.account, ResourceRow.kind == kind)
            ).all()
            for kind in ("Endpoint", COMPONENT)
        )
    used = len(endpoints)
    if quota is INSTANCES:
        fleets = [*endpoints, *(part["fleet"] for part in parts if "fleet" in part)]
        used = sum(instances(EndpointSpec.model_validate(fleet)) for fleet in fleets)
    before = used - delta if written else used
    if before + delta > limit:
        raise LimitExceeded(
            f"The account-level service limit '{quota.name}' is {limit:.0f} {quota.words}, with current utilization of "
            f"{before} {quota.words} and a request delta of {delta} {quota.words}. Please use AWS Service Quotas to "
            "request an increase for this quota. If AWS Service Quotas is not available, contact AWS support to "
            "request an increase for this quota."
        )

"""What automatic scaling counts: a variant's replicas, a serverless one's provisioned concurrency, the copies of an
inference component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.control import components, quotas, variants
from server.metrics.tracking import COPIES, INSTANCES, PROVISIONED
from server.spec import EndpointSpec, Scaling, VariantSpec
from server.store.quotas import Defaults
from server.store.scaling import Key
from server.store.store import Resource, Store

WORDS: Mapping[str, str] = {
    INSTANCES: "desired instance count", PROVISIONED: "provisioned concurrency", COPIES: "desired copy count",
}  # fmt: skip
"""What a capacity is called in an activity's description, by the scalable dimension."""


def spec_of(row: Resource) -> EndpointSpec:
    """What a scaled resource runs. Raises ValueError for an adapter, which has no copies."""
    if row.kind != components.KIND:
        return EndpointSpec.model_validate(row.document)
    if not components.is_base(row):
        raise ValueError(f"{row.name} is an adapter")
    return components.fleet(row)


def scaled(spec: EndpointSpec, key: Key) -> VariantSpec | None:
    """The variant that a target scales; None where there is none of that name."""
    return find(spec, key.variant) if key.variant else spec.variants[0]


def keep(store: Store, row: Resource, document: Mapping[str, Any], limits: Defaults) -> None:
    """Asks for `document` as what `row` runs. Raises Conflict when it was changed meanwhile, LimitExceeded."""
    was, now = spec_of(row), EndpointSpec.model_validate(document)
    if row.kind == components.KIND:
        store.replace(row, {**row.document, "fleet": document}, row.status)
        quotas.check_component(store, limits, was, now)
    else:
        store.replace(row, document, row.status)
        quotas.check_endpoint(store, limits, was, now)


def find(spec: EndpointSpec, name: str) -> VariantSpec | None:
    return next((variant for variant in spec.fleet if variant.name == name), None)


def serverless(spec: EndpointSpec, name: str) -> Mapping[str, Any] | None:
    """The variant's ServerlessConfig; None for one on instances."""
    facts: Any = spec.sagemaker.get("Variants", {})
    found: Mapping[str, Any] | None = facts.get(name, {}).get("ServerlessConfig")
    return found


def capacity(spec: EndpointSpec, variant: VariantSpec, dimension: str) -> int | None:
    """What was asked for; None for replicas between two numbers, which nobody has fixed yet."""
    if dimension == PROVISIONED:
        return int((serverless(spec, variant.name) or {}).get("ProvisionedConcurrency", 0))
    scaling = variant.scaling
    return scaling.min_replicas if scaling.max_replicas == max(1, scaling.min_replicas) else None


def with_capacity(spec: EndpointSpec, variant: VariantSpec, dimension: str, count: int) -> dict[str, Any]:
    """The endpoint's document with that capacity, and nothing else changed, so that running replicas stay.

    No replicas means that the variant sleeps: a request wakes one.
    """
    facts: Any = dict(spec.sagemaker)
    if dimension == PROVISIONED:
        kept = {k: v for k, v in (serverless(spec, variant.name) or {}).items() if k != "ProvisionedConcurrency"}
        config = {**kept, **({"ProvisionedConcurrency": count} if count else {})}
        remembered = {**facts["Variants"][variant.name], "ServerlessConfig": config}
        facts["Variants"] = {**facts["Variants"], variant.name: remembered}
        scaling = variants.serverless_scaling(config)
    else:
        most = {"min_replicas": count, "max_replicas": max(1, count)}
        scaling = Scaling.model_validate({**variant.scaling.model_dump(), **most})
    changed = variant.model_copy(update={"scaling": scaling})
    every, shadows = (
        tuple(changed if each.name == variant.name else each for each in side) for side in (spec.variants, spec.shadows)
    )
    update = {"variants": every, "shadows": shadows, "sagemaker": facts}
    return spec.model_copy(update=update).model_dump(mode="json")

"""Endpoints: a configuration made real by the controller, which writes their status.

Those made by `hearth deploy` or `hearth.yaml` are of the same kind: described and listed with what is known
of them, which is no EndpointConfigName and no image.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from server.control import capture, components, deployments, endpoints, quotas, variants
from server.control import kind as kinds
from server.control.endpoints import CHANGING
from server.control.endpoints import KIND as ENDPOINT
from server.control.kind import Kind, describes, find, make
from server.control.listing import lists
from server.control.operations import Answer, Context, Request
from server.control.resources.endpoint_config import KIND as CONFIG
from server.control.sagemaker import SAGEMAKER
from server.errors import BadRequest, Conflict, NotFound
from server.spec import EndpointSpec, Rollout, Scaling, VariantSpec
from server.store.store import Resource

REASON = 1024
"""Length of FailureReason in the service model."""


def view(resource: Resource) -> dict[str, Any]:
    document, seen = resource.document, resource.observation or {}
    facts = document.get("sagemaker", {})
    config = {name: facts.get(name) for name in ("EndpointConfigName", "LastDeploymentConfig")}
    return {
        **kinds.view(resource),
        **config,
        "FailureReason": resource.reason[:REASON] if resource.reason else None,
        "ProductionVariants": _variants_view(document, seen.get("variants", {})),
        "ShadowProductionVariants": _shadows_view(document, seen.get("variants", {})),
        "DataCaptureConfig": capture.summary(document.get("capture"), resource.status),
        "PendingDeploymentSummary": _pending_view(document.get("pending"), seen),
    }


def _pending_view(pending: Mapping[str, Any] | None, seen: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration that is being rolled out, and how far that is; None when there is none."""
    if pending is None:
        return None
    facts = pending["spec"].get("sagemaker", {})
    status = deployments.variant_status(pending, seen.get("rollout", {}))
    return {
        "EndpointConfigName": facts.get("EndpointConfigName"),
        "ProductionVariants": [
            {**variant, "VariantStatus": [status]}
            for variant in _variants_view(pending["spec"], seen.get("pending", {}))
        ],
        "ShadowProductionVariants": _shadows_view(pending["spec"], seen.get("pending", {})),
        "StartTime": pending["asked_at"],
    }


def _variants_view(
    document: Mapping[str, Any], seen: Mapping[str, Any], side: str = "variants"
) -> list[dict[str, Any]]:
    facts = document.get("sagemaker", {}).get("Variants", {})
    return [
        _variant_view(variant, facts.get(variant["name"], {}), seen.get(variant["name"], {}))
        for variant in document.get(side, ())
    ]


def _shadows_view(document: Mapping[str, Any], seen: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    return _variants_view(document, seen, "shadows") or None


def _variant_view(variant: Mapping[str, Any], facts: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    serverless = facts.get("ServerlessConfig")
    images = facts.get("Images", ())
    return {
        "VariantName": variant["name"],
        "DesiredWeight": variant["weight"],
        "CurrentWeight": seen.get("weight"),
        "DesiredInstanceCount": None if serverless else variant["scaling"]["min_replicas"],
        "CurrentInstanceCount": None if serverless else seen.get("replicas"),
        "DesiredServerlessConfig": serverless,
        "CurrentServerlessConfig": serverless if seen else None,
        "ManagedInstanceScaling": facts.get("ManagedInstanceScaling"),
        "RoutingConfig": facts.get("RoutingConfig"),
        "DeployedImages": [{"SpecifiedImage": image} for image in images] or None,
    }


KIND = Kind(name=ENDPOINT, title="endpoint", initial="Creating", view=view)

describes(KIND)
lists(KIND)


@SAGEMAKER.operation
def create_endpoint(context: Context, request: Request) -> Answer:
    """Asks for an endpoint. One that cannot be run is made too, and fails with the reason."""
    spec = _spec(context, request["EndpointName"], request["EndpointConfigName"])
    deployment = request.get("DeploymentConfig")
    deployments.strategy(context.store, deployment or {}, spec)
    spec = _deployed_with(spec, deployment)
    with context.store.transaction() as store:
        made = make(replace(context, store=store), KIND, spec.name, spec.model_dump(mode="json"), request)
        quotas.check_endpoint(store, context.quotas, None, spec)
    return view(made)


@SAGEMAKER.operation
def update_endpoint(context: Context, request: Request) -> Answer:
    """Asks for another configuration. One that cannot be run is refused, and the endpoint goes on as it is.

    What is in service is replaced by a rollout; an endpoint that is not has nothing to go back to.
    """
    return view(updated(context, _changeable(context, request["EndpointName"]), request))


def updated(context: Context, current: Resource, request: Request) -> Resource:
    """`current`, asked for another configuration as UpdateEndpoint's request says. Raises BadRequest, and Conflict when
    `current` was changed meanwhile."""
    old = EndpointSpec.model_validate(current.document)
    spec = _spec(context, current.name, request["EndpointConfigName"])
    if spec.problem is not None:
        raise BadRequest(f"Endpoint {current.name} cannot be run with {request['EndpointConfigName']}: {spec.problem}")
    components.check_kept(context.store, current, spec)
    if request.get("RetainAllVariantProperties"):
        dropped = {each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties", ())}
        spec = _retained(spec, old, dropped)
    last = old.sagemaker.get("LastDeploymentConfig")
    deployment: Any = request.get("DeploymentConfig", last if request.get("RetainDeploymentConfig") else None)
    strategy = deployments.strategy(context.store, deployment or {}, spec)
    spec = _deployed_with(spec, deployment or last)
    if current.status == "InService" and deployments.moves_traffic(old, spec) and not (old.hosts or spec.hosts):
        rollout = Rollout(spec=spec, strategy=strategy, asked_at=time.time())
        spec = _deployed_with(old, deployment or last).model_copy(update={"pending": rollout})
    return _changed(context, current, old, spec)


@SAGEMAKER.operation
def update_endpoint_weights_and_capacities(context: Context, request: Request) -> Answer:
    """Asks for other shares of traffic and other numbers of replicas, of the replicas that are there."""
    current = _changeable(context, request["EndpointName"])
    spec = EndpointSpec.model_validate(current.document)
    if spec.pending is not None:
        raise BadRequest(f'Cannot update in-progress endpoint "{current.arn}": it is {current.status}.')
    wanted = {each["VariantName"]: each for each in request["DesiredWeightsAndCapacities"]}
    unknown = set(wanted) - {variant.name for variant in (*spec.variants, *spec.shadows)}
    if unknown:
        raise NotFound(f'Could not find variant "{min(unknown)}" of endpoint "{current.arn}".')
    changed, shadows = (
        tuple(_resized(spec, variant, wanted.get(variant.name, {})) for variant in side)
        for side in (spec.variants, spec.shadows)
    )
    facts: Any = dict(spec.sagemaker)
    for name, each in wanted.items():
        if update := each.get("ServerlessUpdateConfig"):
            remembered = facts["Variants"][name]
            merged = {**remembered["ServerlessConfig"], **update}
            facts["Variants"] = {**facts["Variants"], name: {**remembered, "ServerlessConfig": merged}}
    whole = {**spec.model_dump(mode="json"), "variants": changed, "shadows": shadows, "sagemaker": facts}
    return view(_changed(context, current, spec, _valid(whole)))


@SAGEMAKER.operation
def delete_endpoint(context: Context, request: Request) -> Answer:
    """Asks for an endpoint's removal, whatever state it is in; again while it goes changes nothing."""
    while (current := find(context, KIND, request["EndpointName"])).status != "Deleting":
        with contextlib.suppress(Conflict):  # another change came first; it goes too
            endpoints.delete(context.store, current.name)
    return {}


def _spec(context: Context, name: str, config_name: str) -> EndpointSpec:
    config = find(context, CONFIG, config_name)
    return variants.endpoint(context.store, name, config.name, config.document, context.machine)


def _changeable(context: Context, name: str) -> Resource:
    current = find(context, KIND, name)
    if current.status in (*CHANGING, "Deleting"):
        raise BadRequest(f'Cannot update in-progress endpoint "{current.arn}": it is {current.status}.')
    return current


def _deployed_with(spec: EndpointSpec, deployment: Any) -> EndpointSpec:
    """`spec` that remembers how it was deployed."""
    if deployment is None:
        return spec
    return spec.model_copy(update={"sagemaker": {**spec.sagemaker, "LastDeploymentConfig": deployment}})


def _retained(spec: EndpointSpec, old: EndpointSpec, dropped: set[str]) -> EndpointSpec:
    """`spec` with what it captures, and the weights and numbers of replicas that its variants had, before."""
    kept: dict[str, Any] = {} if "DataCaptureConfig" in dropped else {"capture": old.capture}
    kept |= {
        "variants": _kept(spec, old, dropped, spec.variants, old.variants),
        "shadows": _kept(spec, old, dropped, spec.shadows, old.shadows),
    }
    return spec.model_copy(update=kept)


def _kept(
    spec: EndpointSpec, old: EndpointSpec, dropped: set[str], wanted: Sequence[VariantSpec], had: Sequence[VariantSpec]
) -> tuple[VariantSpec, ...]:
    before = {variant.name: variant for variant in had}
    kept = []
    for variant in wanted:
        was = before.get(variant.name, variant)
        weight = variant.weight if "DesiredWeight" in dropped else was.weight
        counted = "DesiredInstanceCount" not in dropped and not (_serverless(spec, was) or _serverless(old, was))
        scaling = was.scaling if counted else variant.scaling
        kept.append(variant.model_copy(update={"weight": weight, "scaling": scaling}))
    return tuple(kept)


def _serverless(spec: EndpointSpec, variant: VariantSpec) -> Any:
    """Its ServerlessConfig; None for one on instances."""
    facts: Any = spec.sagemaker.get("Variants", {})
    return facts.get(variant.name, {}).get("ServerlessConfig")


def _resized(spec: EndpointSpec, variant: VariantSpec, wanted: Mapping[str, Any]) -> dict[str, Any]:
    document = variant.model_dump(mode="json")
    document["weight"] = wanted.get("DesiredWeight", variant.weight)
    serverless = _serverless(spec, variant)
    if "DesiredInstanceCount" in wanted:
        if serverless:
            raise BadRequest(f"Variant {variant.name} is serverless; it has no DesiredInstanceCount.")
        document["scaling"] |= _count(variant.scaling, wanted["DesiredInstanceCount"])
    if "ServerlessUpdateConfig" in wanted:
        if not serverless:
            raise BadRequest(f"Variant {variant.name} is not serverless; it has no ServerlessUpdateConfig.")
        changed = {**serverless, **wanted["ServerlessUpdateConfig"]}
        if changed.get("ProvisionedConcurrency", 0) > changed["MaxConcurrency"]:
            raise BadRequest(
                f"Variant {variant.name}: ProvisionedConcurrency {changed['ProvisionedConcurrency']} is above "
                f"MaxConcurrency {changed['MaxConcurrency']}.",
                field="serverlessUpdateConfig",
            )
        document["scaling"] = variants.serverless_scaling(changed)
        document["limits"]["max_in_flight"] = changed["MaxConcurrency"]
    return document


def _count(scaling: Scaling, count: int) -> dict[str, int]:
    """A fixed number stays one; a range keeps its upper end unless the number is beyond it."""
    fixed = scaling.min_replicas == scaling.max_replicas
    return {"min_replicas": count, "max_replicas": max(1, count, 0 if fixed else scaling.max_replicas)}


def _changed(context: Context, current: Resource, was: EndpointSpec, spec: EndpointSpec) -> Resource:
    """Raises LimitExceeded, and then all is as it was."""
    with context.store.transaction() as store:
        made = store.replace(current, spec.model_dump(mode="json"), "Updating")
        quotas.check_endpoint(store, context.quotas, was, spec)
    return made


def _valid(document: Mapping[str, Any]) -> EndpointSpec:
    try:
        return EndpointSpec.model_validate(document)
    except ValidationError as error:
        raise BadRequest("; ".join(problem["msg"] for problem in error.errors())) from None

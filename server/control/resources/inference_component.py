"""Inference components: models on the instances of an endpoint that has none itself, and adapters on those models.

These calls write what is wanted; the controller (`server.controller.components`) makes it true and reports.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from server.control import component_fleets, components, deployments, quotas
from server.control import kind as kinds
from server.control.components import BASE, adapters, aim, copies, fleet, is_base
from server.control.kind import Kind, describes, find, make
from server.control.listing import lists
from server.control.operations import Answer, Context, Request
from server.control.resources.endpoint import KIND as ENDPOINT
from server.control.resources.endpoint import REASON
from server.control.resources.model import KIND as MODEL
from server.control.sagemaker import SAGEMAKER
from server.errors import BadRequest, Conflict
from server.spec import EndpointSpec, Rollout
from server.store.store import Resource

CHANGING = ("Creating", "Updating", "Deleting")
LISTED = {"EndpointNameEquals": "EndpointName", "VariantNameEquals": "VariantName"}
"""Filters of the list by the member that they compare."""


def view(resource: Resource) -> dict[str, Any]:
    common = {**kinds.view(resource), "FailureReason": resource.reason[:REASON] if resource.reason else None}
    if not is_base(resource):
        return {**common, "Specification": _summary(resource.document["Specification"])}
    spec = aim(resource)
    facts: Any = spec.sagemaker
    several = facts.get("Specifications")
    return {
        **common,
        "Specification": _summary(facts["Specification"]) if "Specification" in facts else None,
        "Specifications": [_summary(each) for each in several] if several else None,
        "RuntimeConfig": _runtime(spec, resource.observation),
        "LastDeploymentConfig": facts.get("LastDeploymentConfig"),
    }


def _summary(specification: Mapping[str, Any]) -> dict[str, Any]:
    container = dict(specification.get("Container", {}))
    image = container.pop("Image", None)
    deployed = {"DeployedImage": {"SpecifiedImage": image}} if image else {}
    return {**specification, "Container": {**container, **deployed} or None}


def _runtime(spec: EndpointSpec, seen: Mapping[str, Any] | None) -> dict[str, Any]:
    (variant,) = spec.variants
    sides = [seen[side] for side in ("variants", "pending") if seen and side in seen]
    there = sum(side.get(variant.name, {}).get("replicas", 0) for side in sides)
    placed = [{"InstanceType": spec.sagemaker["InstanceType"], "CurrentCopyCount": there}] if there else None
    return {"DesiredCopyCount": copies(spec), "CurrentCopyCount": there, "PlacementStatus": placed}


def _facets(document: Mapping[str, Any]) -> dict[str, str]:
    return {member: document[member] for member in LISTED.values()}


def _narrow(_context: Context, request: Request) -> dict[str, Any]:
    return {"facets": {member: request[name] for name, member in LISTED.items() if name in request}}


KIND = Kind(
    name=components.KIND, title="inference component", initial="Creating", view=view, facets=_facets,
    filters=tuple(LISTED), narrow=_narrow,
)  # fmt: skip

describes(KIND)
lists(KIND)


@SAGEMAKER.operation
def create_inference_component(context: Context, request: Request) -> Answer:
    """Asks for a component. One that cannot be run is made too, and fails with the reason."""
    with context.store.transaction() as store:
        inside = replace(context, store=store)
        endpoint, variant = _host(inside, request)
        document = {"EndpointName": endpoint.name, "EndpointArn": endpoint.arn, "VariantName": variant}
        name = request["InferenceComponentName"]
        if (base := request.get("Specification", {}).get(BASE)) is not None:
            _check_adapter(inside, request, endpoint, base)
            document["Specification"] = request["Specification"]
            return view(make(inside, KIND, name, document, request))
        if "RuntimeConfig" not in request:
            raise BadRequest("RuntimeConfig must be given, with its CopyCount.", field="runtimeConfig")
        asked = {**request, **request["RuntimeConfig"]}
        spec = _fleet(inside, EndpointSpec.model_validate(endpoint.document), variant, name, asked)
        made = make(inside, KIND, name, {**document, "fleet": spec.model_dump(mode="json")}, request)
        quotas.check_component(store, context.quotas, None, spec)
    return view(made)


@SAGEMAKER.operation
def update_inference_component(context: Context, request: Request) -> Answer:
    """Asks for another specification, number of copies, or adapter. What serves goes on until its successor does."""
    current = _changeable(context, request)
    if not is_base(current):
        return view(_reloaded(context, current, request))
    old = fleet(current)
    facts: Any = old.sagemaker
    given = {member: request[member] for member in ("Specification", "Specifications") if member in request}
    kept = {member: facts[member] for member in ("Specification", "Specifications") if member in facts}
    count = request.get("RuntimeConfig", {}).get("CopyCount", copies(old))
    host = EndpointSpec.model_validate(context.store.get(ENDPOINT.name, old.name).document)
    asked = {**(given or kept), "CopyCount": count}
    spec = _fleet(context, host, current.document["VariantName"], current.name, asked)
    if spec.problem is not None:
        raise BadRequest(f"Inference component {current.name} cannot be run so: {spec.problem}", field="specification")
    deployment: Any = request.get("DeploymentConfig")
    strategy = deployments.strategy(context.store, deployment or {}, spec)
    if deployment := deployment or facts.get("LastDeploymentConfig"):
        spec = spec.model_copy(update={"sagemaker": {**spec.sagemaker, "LastDeploymentConfig": deployment}})
    serves = current.status == "InService" and copies(old) and count
    if serves and deployments.moves_traffic(old, spec):
        spec = old.model_copy(update={"pending": Rollout(spec=spec, strategy=strategy, asked_at=time.time())})
    return view(_changed(context, current, old, spec))


@SAGEMAKER.operation
def update_inference_component_runtime_config(context: Context, request: Request) -> Answer:
    """Asks for another number of copies; those that are there stay."""
    current = _changeable(context, request)
    if not is_base(current):
        raise BadRequest(f"Inference component {current.name} is an adapter, which has no copies.", field="copyCount")
    old = fleet(current)
    spec = component_fleets.with_copies(old, request["DesiredRuntimeConfig"]["CopyCount"])
    host = EndpointSpec.model_validate(context.store.get(ENDPOINT.name, old.name).document)
    component_fleets.check_room(context.store, host, spec, context.machine)
    return view(_changed(context, current, old, spec))


@SAGEMAKER.operation
def delete_inference_component(context: Context, request: Request) -> Answer:
    """Asks for a component's removal, whatever state it is in; again while it goes changes nothing."""
    while (current := find(context, KIND, request[KIND.name_member])).status != "Deleting":
        with contextlib.suppress(Conflict), context.store.transaction() as store:
            going = store.replace(current, current.document, "Deleting")
            if found := adapters(store, going):
                raise BadRequest(
                    f'Cannot delete inference component "{going.arn}": the adapters '
                    f"{', '.join(each.name for each in found)} are on it; delete those first.",
                    field="inferenceComponentName",
                )
    return {}


def _host(context: Context, request: Request) -> tuple[Resource, str]:
    """The endpoint, held so that it stays, and the variant. Raises NotFound, BadRequest."""
    endpoint = find(context, ENDPOINT, request["EndpointName"])
    context.store.count(endpoint)
    endpoint = find(context, ENDPOINT, request["EndpointName"])
    if endpoint.status != "InService":
        raise BadRequest(
            f'Endpoint "{endpoint.arn}" is {endpoint.status}; inference components are put on one that is InService.',
            field="endpointName",
        )
    spec = EndpointSpec.model_validate(endpoint.document)
    if not spec.hosts:
        raise BadRequest(
            f'Endpoint "{endpoint.arn}" has a model; inference components are put on endpoints whose configuration '
            "has an ExecutionRoleArn, and no ModelName in its variants.",
            field="endpointName",
        )
    names = [variant.name for variant in spec.variants]
    given = request.get("VariantName", names[0] if len(names) == 1 else None)
    if given not in names:
        raise BadRequest(f"VariantName must be one of {', '.join(names)}.", field="variantName")
    return endpoint, str(given)


def _check_adapter(context: Context, request: Request, endpoint: Resource, base: str) -> None:
    """Raises NotFound, BadRequest for what is no adapter on a base of this endpoint."""
    if "RuntimeConfig" in request:
        raise BadRequest("An adapter has no RuntimeConfig; its base has the copies.", field="runtimeConfig")
    _check_adapter_specification(request["Specification"])
    found = find(context, KIND, base)
    context.store.count(found)  # so that it stays until this is done
    found = find(context, KIND, base)
    if found.document["EndpointName"] != endpoint.name:
        raise BadRequest(
            f"Inference component {base} is on endpoint {found.document['EndpointName']}, not on {endpoint.name}.",
            field="baseInferenceComponentName",
        )
    if not is_base(found):
        raise BadRequest(f"Inference component {base} is an adapter itself.", field="baseInferenceComponentName")
    if found.status not in ("InService", "Updating"):
        raise BadRequest(
            f'Inference component "{found.arn}" is {found.status}; adapters are put on one that is InService.',
            field="baseInferenceComponentName",
        )


def _check_adapter_specification(specification: Mapping[str, Any]) -> None:
    for member in ("ModelName", "ComputeResourceRequirements", "StartupParameters"):
        if member in specification:
            raise BadRequest(f"An adapter has no {member}; its base has one.", field=member[0].lower() + member[1:])
    container = specification.get("Container", {})
    if "Image" in container:
        raise BadRequest("An adapter has no Image; its base has one.", field="image")
    if not container.get("ArtifactUrl", "").startswith("s3://"):
        raise BadRequest("An adapter needs Container.ArtifactUrl, an s3:// address.", field="artifactUrl")


def _fleet(context: Context, host: EndpointSpec, variant: str, name: str, asked: Mapping[str, Any]) -> EndpointSpec:
    for each in asked.get("Specifications") or [asked.get("Specification", {})]:
        if "ModelName" in each:
            find(context, MODEL, each["ModelName"])
    return component_fleets.fleet(context.store, host, variant, name, asked, context.machine)


def _changeable(context: Context, request: Request) -> Resource:
    current = find(context, KIND, request[KIND.name_member])
    if current.status in CHANGING:
        raise BadRequest(f'Cannot update in-progress inference component "{current.arn}": it is {current.status}.')
    return current


def _reloaded(context: Context, current: Resource, request: Request) -> Resource:
    """An adapter with other weights. Raises BadRequest."""
    specification = request.get("Specification")
    if specification is None or "RuntimeConfig" in request or "DeploymentConfig" in request:
        raise BadRequest("Of an adapter only its Specification can be updated.", field="specification")
    was = current.document["Specification"]
    if specification.get(BASE, was[BASE]) != was[BASE]:
        raise BadRequest(f"An adapter stays on its base, {was[BASE]}.", field="baseInferenceComponentName")
    _check_adapter_specification(specification)
    document = {**current.document, "Specification": {**was, **specification}}
    return context.store.replace(current, document, "Updating")


def _changed(context: Context, current: Resource, was: EndpointSpec, spec: EndpointSpec) -> Resource:
    """Raises LimitExceeded, and then all is as it was."""
    with context.store.transaction() as store:
        made = store.replace(current, {**current.document, "fleet": spec.model_dump(mode="json")}, "Updating")
        quotas.check_component(store, context.quotas, was, spec)
    return made

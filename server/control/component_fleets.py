"""From an inference component's specification to the fleet that runs it.

What cannot be run is no error of CreateInferenceComponent's: the component is made, and goes to Failed with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from server.control import caching, components, many, variants
from server.control.instances import Machine, on_aws
from server.control.placement import NO_ROOM, fits
from server.errors import BadRequest
from server.spec import EndpointSpec, Resources, Scaling, VariantSpec
from server.store.store import Store

Document = Mapping[str, Any]


def chosen(specifications: Document, instance_type: str | None) -> Document:
    """The specification for the variant's instances: the one there is, or that of several which names their type.
    Raises BadRequest."""
    if ("Specification" in specifications) == ("Specifications" in specifications):
        raise BadRequest("Exactly one of Specification and Specifications must be given.", field="specification")
    several = specifications.get("Specifications") or [specifications["Specification"]]
    if len(several) == 1 and several[0].get("InstanceType", instance_type) == instance_type:
        return several[0]  # type: ignore[no-any-return]
    types = [each.get("InstanceType") for each in several]
    if None in types or len(set(types)) != len(types):
        raise BadRequest("Each of several Specifications needs an InstanceType of its own.", field="specifications")
    if instance_type not in types:
        raise BadRequest(
            f"No specification is for {instance_type}, the variant's InstanceType; got {', '.join(types)}.",
            field="specifications",
        )
    return several[types.index(instance_type)]  # type: ignore[no-any-return]


def fleet(
    store: Store, endpoint: EndpointSpec, variant: str, name: str, asked: Document, machine: Machine
) -> EndpointSpec:
    """What runs component `name` on a variant of `endpoint`. `asked`: Specification or Specifications, and CopyCount.
    `problem` tells what stands in its way. Raises BadRequest for what is no specification of a base component."""
    facts: Any = endpoint.sagemaker.get("Variants", {})
    instance_type = facts.get(variant, {}).get("InstanceType")
    specification = chosen(asked, instance_type)
    if "ComputeResourceRequirements" not in specification:
        raise BadRequest("ComputeResourceRequirements must be given.", field="computeResourceRequirements")
    scaling = _scaling(asked["CopyCount"])
    resources = reserved(specification["ComputeResourceRequirements"], machine)
    shown = {member: asked[member] for member in ("Specification", "Specifications") if member in asked}
    if "StartupParameters" in specification:
        shown["StartupParameters"] = specification["StartupParameters"]
    host = next(each for each in endpoint.variants if each.name == variant)
    common = {
        "name": variant, "component": name, "resources": resources, "scaling": scaling, "routing": host.routing,
    }  # fmt: skip
    problem = None
    try:
        made = VariantSpec.model_validate({**common, **_run(store, specification)})
    except (BadRequest, ValidationError) as error:
        problem = variants.words(error)
        made = VariantSpec.model_validate({**common, "model": "none"})
    spec = EndpointSpec(
        name=endpoint.name, variants=(made,), problem=problem, sagemaker={**shown, "InstanceType": instance_type}
    )
    if machine.reserve and instance_type is not None and not _fits(store, endpoint, spec, instance_type):
        return spec.model_copy(update={"problem": problem or NO_ROOM})
    return spec


def with_copies(spec: EndpointSpec, count: int) -> EndpointSpec:
    """Raises BadRequest for more than there can be."""
    changed = spec.variants[0].model_copy(update={"scaling": _scaling(count)})
    return spec.model_copy(update={"variants": (changed,)})


def check_room(store: Store, endpoint: EndpointSpec, spec: EndpointSpec, machine: Machine) -> None:
    """Raises BadRequest where the instances have no room for the copies of `spec`."""
    instance_type: Any = spec.sagemaker.get("InstanceType")
    if machine.reserve and instance_type is not None and not _fits(store, endpoint, spec, instance_type):
        raise BadRequest(NO_ROOM, field="copyCount")


def reserved(requirements: Document, machine: Machine) -> Resources:
    """What a copy reserves: all that it asks for where instances are reserved, else as replicas of endpoints do, one
    CPU at most, and cards as far as the machine has any."""
    cpus = requirements.get("NumberOfCpuCoresRequired", 1.0)
    cards = requirements.get("NumberOfAcceleratorDevicesRequired", 0.0)
    if machine.reserve:
        return Resources(num_cpus=cpus, num_gpus=cards, memory_mb=requirements["MinMemoryRequiredInMb"])
    return Resources(num_cpus=min(1.0, cpus), num_gpus=min(cards, machine.cards))


def _scaling(count: int) -> Scaling:
    try:
        return Scaling(min_replicas=count, max_replicas=max(1, count))
    except ValidationError:
        raise BadRequest(f"CopyCount {count} is above 1000.", field="copyCount") from None


def _run(store: Store, specification: Document) -> dict[str, Any]:
    """Model, task, engine options and environment. Raises BadRequest with why there are none."""
    if "AcceleratorPartitionType" in specification["ComputeResourceRequirements"]:
        raise BadRequest("parts of an accelerator (`AcceleratorPartitionType`) cannot be given to a copy yet")
    mode, parts = variants.containers_of(store, _container(specification))
    if any(many.is_many(part) for part in parts):
        raise BadRequest("a component holds one model; make a component of each, or an endpoint with Mode MultiModel")
    if caching.asked([part.get("Environment", {}) for part in parts]) is not None:
        raise BadRequest("the response cache of inference components cannot be run yet")
    return variants.run(mode, parts)


def _container(specification: Document) -> Document:
    """What a production variant or a model's container would say."""
    given = specification.get("Container")
    if ("ModelName" in specification) == (given is not None):
        raise BadRequest("Exactly one of ModelName and Container must be given.", field="modelName")
    if given is None:
        return {"ModelName": specification["ModelName"]}
    if "Image" not in given:
        raise BadRequest("A container needs an Image.", field="image")
    data = {"ModelDataUrl": given["ArtifactUrl"]} if "ArtifactUrl" in given else {}
    return {"Container": {"Image": given["Image"], "Environment": given.get("Environment", {}), **data}}


def _fits(store: Store, endpoint: EndpointSpec, spec: EndpointSpec, instance_type: str) -> bool:
    """With the other components on the variant. As many instances as it may come to have are there for them."""
    (own,) = spec.variants
    wanted = [(components.copies(spec), own.resources)]
    for each in components.on_endpoint(store, endpoint.name):
        if components.is_base(each) and each.name != own.component and each.document["VariantName"] == own.name:
            other = components.aim(each)
            if other.problem is None:
                wanted.append((components.copies(other), other.variants[0].resources))
    instances = next(each.scaling.max_replicas for each in endpoint.variants if each.name == own.name)
    return fits(instances, on_aws(instance_type), wanted)

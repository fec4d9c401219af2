"""From SageMaker's production variants to Hearth's: a configuration and its models become an `EndpointSpec`.

What cannot be run is no error of CreateEndpoint's: the endpoint is made, and goes to Failed with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from server.control import images
from server.control.instances import Machine, reserved
from server.errors import BadRequest, NotFound
from server.spec import EndpointSpec, Limits, Resources, Scaling, VariantSpec
from server.store.store import Store

Document = Mapping[str, Any]

NOT_RUN: Mapping[str, str] = {
    "ShadowProductionVariants": "shadow variants",
    "AsyncInferenceConfig": "asynchronous inference",
    "ExplainerConfig": "explanations",
    "CrossRegionTrafficConfig": "traffic to other regions",
}
"""Parts of a configuration that are kept, and that no endpoint can be run with yet."""
COPIED = ("ServerlessConfig", "ManagedInstanceScaling", "RoutingConfig", "InstanceType", "ModelName")
"""What an endpoint remembers of its variants for DescribeEndpoint."""


def endpoint(store: Store, name: str, config_name: str, config: Document, machine: Machine) -> EndpointSpec:
    """The endpoint `name` as `config` says; `problem` tells what stands in its way."""
    problems = [f"{words} (`{member}`) cannot be run yet" for member, words in NOT_RUN.items() if member in config]
    if config.get("DataCaptureConfig", {}).get("EnableCapture"):
        problems.append("data capture (`DataCaptureConfig`) cannot be run yet")
    variants = []
    remembered: dict[str, Any] = {}
    for wanted in config["ProductionVariants"]:
        container: Document = {}
        try:
            container = _container(store, wanted)
            variants.append(_variant(wanted, images.served(container), machine))
        except (BadRequest, ValidationError) as error:
            problems.append(f"variant {wanted['VariantName']}: {_words(error)}")
            variants.append(_placeholder(wanted))
        remembered[wanted["VariantName"]] = _remembered(wanted, container)
    if sum(variant.weight for variant in variants) <= 0:
        problems.append("at least one variant needs an InitialVariantWeight above 0")
        variants[0] = variants[0].model_copy(update={"weight": 1.0})
    return EndpointSpec(
        name=name,
        variants=tuple(variants),
        problem="; ".join(problems) or None,
        sagemaker={"EndpointConfigName": config_name, "Variants": remembered},
    )


def containers(model: Document) -> list[Document]:
    """A model's containers, the primary one first."""
    primary = model.get("PrimaryContainer")
    return [*([primary] if primary else []), *model.get("Containers", ())]


def scaling(wanted: Document) -> Scaling:
    """Replicas for a variant: a fixed number, a managed range, or from zero for a serverless one."""
    if serverless := wanted.get("ServerlessConfig"):
        return serverless_scaling(serverless)
    count = wanted.get("InitialInstanceCount", 1)
    managed = wanted.get("ManagedInstanceScaling", {})
    if managed.get("Status") != "ENABLED":
        return Scaling(min_replicas=count, max_replicas=max(1, count))
    low = managed.get("MinInstanceCount", count)
    return Scaling(min_replicas=low, max_replicas=max(1, low, managed.get("MaxInstanceCount", count)))


def serverless_scaling(serverless: Document) -> Scaling:
    """Up to a replica for each concurrent request; as many always warm as hold the provisioned ones."""
    warm = math.ceil(serverless.get("ProvisionedConcurrency", 0) / Scaling().target_in_flight)
    return Scaling(min_replicas=warm, max_replicas=serverless["MaxConcurrency"])


def package_container(package: Document, specification: str | None = None) -> Document:
    """The first container of a model package's inference specification. Raises BadRequest when it has none."""
    found = package.get("InferenceSpecification", {})
    if specification is not None:
        named = package.get("AdditionalInferenceSpecifications", ())
        found = next((each for each in named if each["Name"] == specification), {})
    if not found.get("Containers"):
        which = f" {specification!r}" if specification else ""
        raise BadRequest(f"the model package has no inference specification{which}")
    first: Document = found["Containers"][0]
    return first


def _container(store: Store, wanted: Document) -> Document:
    """The one container of a variant's model."""
    if "InstancePools" in wanted:
        raise BadRequest("instance pools cannot be run yet; name an InstanceType")
    if "ModelName" not in wanted:
        raise BadRequest("it names no model, and inference components cannot be run yet")
    try:
        every = containers(store.get("Model", wanted["ModelName"]).document)
    except NotFound:
        raise BadRequest(f"model {wanted['ModelName']!r} was deleted") from None
    if len(every) != 1:
        raise BadRequest(f"model {wanted['ModelName']!r} has {len(every)} containers; one can be run")
    container = every[0]
    if "ModelPackageName" in container:
        container = _from_package(store, container)
    if container.get("Mode") == "MultiModel":
        raise BadRequest("multi-model containers cannot be run yet")
    return container


def _from_package(store: Store, container: Document) -> Document:
    given = container["ModelPackageName"]
    try:
        package = store.by_arn(given) if given.startswith("arn:") else store.get("ModelPackage", given)
    except NotFound:
        raise BadRequest(f"model package {given!r} was deleted") from None
    found = package_container(package.document, container.get("InferenceSpecificationName"))
    environ = {**found.get("Environment", {}), **container.get("Environment", {})}
    return {**found, "Environment": environ}


def _variant(wanted: Document, served: images.Served, machine: Machine) -> VariantSpec:
    serverless = wanted.get("ServerlessConfig")
    resources = reserved(None if serverless else wanted["InstanceType"], machine)
    limits = Limits(max_in_flight=serverless["MaxConcurrency"]) if serverless else Limits()
    return VariantSpec(
        name=wanted["VariantName"],
        model=served.model,
        task=served.task,
        weight=wanted.get("InitialVariantWeight", 1.0),
        engine=dict(served.engine),
        env=dict(served.env),
        resources=resources,
        scaling=scaling(wanted),
        limits=limits,
    )


def _placeholder(wanted: Document) -> VariantSpec:
    """What stands where a variant cannot be run; its endpoint's `problem` keeps it from being started."""
    return VariantSpec(
        name=wanted["VariantName"],
        model=wanted.get("ModelName", "none"),
        weight=wanted.get("InitialVariantWeight", 1.0),
        resources=Resources(num_cpus=0),
    )


def _words(error: BadRequest | ValidationError) -> str:
    if isinstance(error, BadRequest):
        return error.message
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def _remembered(wanted: Document, container: Document) -> dict[str, Any]:
    kept = {member: wanted[member] for member in COPIED if member in wanted}
    return {**kept, **({"Image": container["Image"]} if "Image" in container else {})}

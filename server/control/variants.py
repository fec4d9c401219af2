"""From SageMaker's production variants to Hearth's: a configuration and its models become an `EndpointSpec`.

What cannot be run is no error of CreateEndpoint's: the endpoint is made, and goes to Failed with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from server.control import caching, capture, containers, images, many
from server.control.instances import Machine, reserved
from server.errors import BadRequest, NotFound
from server.spec import EndpointSpec, Limits, Resources, Routing, Scaling, VariantSpec
from server.store.store import Store

Document = Mapping[str, Any]

NOT_RUN: Mapping[str, str] = {
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
    variants = []
    remembered: dict[str, Any] = {}
    production = len(config["ProductionVariants"])
    for wanted in (*config["ProductionVariants"], *config.get("ShadowProductionVariants", ())):
        parts: list[Document] = []
        try:
            if "ModelName" in wanted:
                mode, parts = containers_of(store, wanted)
                variants.append(_variant(wanted, mode, parts, machine))
            else:
                variants.append(_host(wanted))
        except (BadRequest, ValidationError) as error:
            problems.append(f"variant {wanted['VariantName']}: {words(error)}")
            variants.append(_placeholder(wanted))
        remembered[wanted["VariantName"]] = _remembered(wanted, parts)
    if sum(variant.weight for variant in variants[:production]) <= 0:
        problems.append("at least one variant needs an InitialVariantWeight above 0")
        variants[0] = variants[0].model_copy(update={"weight": 1.0})
    captured = capture.spec(config.get("DataCaptureConfig"))
    if captured is not None and any(variant.hosts for variant in variants):
        problems.append("data capture (`DataCaptureConfig`) of inference components cannot be run yet")
    return EndpointSpec(
        name=name,
        variants=tuple(variants[:production]),
        shadows=tuple(variants[production:]),
        capture=captured,
        problem="; ".join(problems) or None,
        sagemaker={"EndpointConfigName": config_name, "Variants": remembered},
    )


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


def routing(wanted: Document) -> Routing:
    """As `RoutingConfig` asks. Raises BadRequest for a strategy that cannot be followed."""
    config = wanted.get("RoutingConfig", {})
    strategy = config.get("RoutingStrategy", Routing().strategy)
    if strategy == "KV_AWARE":
        raise BadRequest("RoutingStrategy KV_AWARE cannot be followed yet; PREFIX_AWARE comes nearest")
    prefix = config.get("PrefixAwareRoutingConfig")
    if strategy != "PREFIX_AWARE":
        if prefix is not None:
            raise BadRequest("PrefixAwareRoutingConfig needs the RoutingStrategy PREFIX_AWARE")
        return Routing(strategy=strategy)
    missing = [member for member in ("PrefixLength", "ConcurrencyThreshold") if member not in (prefix or {})]
    if prefix is None or missing:
        raise BadRequest(f"RoutingStrategy PREFIX_AWARE needs {' and '.join(missing)} in PrefixAwareRoutingConfig")
    return Routing(
        strategy=strategy, prefix_length=prefix["PrefixLength"], concurrency_threshold=prefix["ConcurrencyThreshold"]
    )


def containers_of(store: Store, wanted: Document) -> tuple[str, list[Document]]:
    """How the containers of a variant's model, or the `Container` in its place, are run, and each as it is run."""
    _check_instances(wanted)
    if "Container" in wanted:
        return "Serial", [wanted["Container"]]
    try:
        model = store.get("Model", wanted["ModelName"]).document
    except NotFound:
        raise BadRequest(f"model {wanted['ModelName']!r} was deleted") from None
    expanded = containers.expanded(model, lambda given: _package(store, given))
    containers.check(expanded, containers.mode(model))
    return containers.mode(model), containers.named(expanded)


def _check_instances(wanted: Document) -> None:
    if "InstancePools" in wanted:
        raise BadRequest("instance pools cannot be run yet; name an InstanceType")


def _host(wanted: Document) -> VariantSpec:
    """A variant for inference components."""
    _check_instances(wanted)
    weight = wanted.get("InitialVariantWeight", 1.0)
    return VariantSpec(
        name=wanted["VariantName"], hosts=True, weight=weight, scaling=scaling(wanted), routing=routing(wanted)
    )


def _package(store: Store, given: str) -> Document:
    try:
        return (store.by_arn(given) if given.startswith("arn:") else store.get("ModelPackage", given)).document
    except NotFound:
        raise BadRequest(f"model package {given!r} was deleted") from None


def _variant(wanted: Document, mode: str, parts: Sequence[Document], machine: Machine) -> VariantSpec:
    serverless = wanted.get("ServerlessConfig")
    common = {
        "name": wanted["VariantName"],
        "weight": wanted.get("InitialVariantWeight", 1.0),
        "resources": reserved(None if serverless else wanted["InstanceType"], machine),
        "scaling": scaling(wanted),
        "limits": Limits(max_in_flight=serverless["MaxConcurrency"]) if serverless else Limits(),
        "routing": routing(wanted),
        "cache": caching.asked([part.get("Environment", {}) for part in parts]),
    }
    return VariantSpec.model_validate({**common, **run(mode, parts, serverless)})


def run(mode: str, parts: Sequence[Document], serverless: Document | None = None) -> dict[str, Any]:
    """What a variant says of its containers; `serverless` is its ServerlessConfig, if it has one. Raises BadRequest for
    one that Hearth has no runtime for."""
    if len(parts) == 1:
        return _run(many.served(parts[0]), parts[0], serverless)
    several = [{"name": each[containers.HOSTNAME], **_run(_served(each), each, serverless)} for each in parts]
    return {"containers": several, "mode": mode}


def _served(container: Document) -> images.Served:
    try:
        return many.served(container)
    except BadRequest as error:
        raise BadRequest(f"container {container[containers.HOSTNAME]}: {error.message}") from None


def _run(served: images.Served, container: Document, serverless: Document | None) -> dict[str, Any]:
    engine = dict(served.engine)
    if many.is_many(container) and serverless:
        engine = {"model-cache-mb": serverless["MemorySizeInMB"], **engine}
    return {
        "model": served.model, "task": served.task, "many": many.cache(container), "engine": engine,
        "env": dict(served.env),
    }  # fmt: skip


def _placeholder(wanted: Document) -> VariantSpec:
    """What stands where a variant cannot be run; its endpoint's `problem` keeps it from being started."""
    return VariantSpec(
        name=wanted["VariantName"],
        model=wanted.get("ModelName", "none"),
        weight=wanted.get("InitialVariantWeight", 1.0),
        resources=Resources(num_cpus=0),
    )


def words(error: BadRequest | ValidationError) -> str:
    if isinstance(error, BadRequest):
        return error.message
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def _remembered(wanted: Document, parts: Sequence[Document]) -> dict[str, Any]:
    kept = {member: wanted[member] for member in COPIED if member in wanted}
    named = [each["Image"] for each in parts if "Image" in each]
    return {**kept, **({"Images": named} if named else {})}

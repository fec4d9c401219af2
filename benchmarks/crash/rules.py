"""The control plane's calls as pure functions: a reference that the running one is held to.

A call takes a world to the next one and to the part of its answer that the world decides; or it is refused, and the
world stays. Reads are calls too. Only what `sequence.py` sends is described.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks.crash.world import CHANGING, Config, Ending, Endpoint, Group, Model, Package, Things, Variant, World

Request = Mapping[str, Any]
Answer = Mapping[str, Any]

IMAGE, NO_IMAGE = "sagemaker-scikit-learn:1", "registry.example.com/own:1"
"""One that Hearth has a runtime for, and one that it has not."""


class Refused(Exception):
    """The call must be answered by a 400."""


Rule = Callable[[Things, Request], Answer]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Registers `def create_model(things, request)`, which changes `things` unless it raises Refused."""
    RULES[function.__name__] = function
    return function


def apply(world: World, operation: str, request: Request) -> tuple[World, Answer]:
    """Raises Refused."""
    things = dict(world)
    answer = RULES[operation](things, request)
    return frozenset(things.items()), answer


def _there(things: Things, kind: str, name: str) -> Any:
    found = things.get((kind, name))
    if found is None:
        raise Refused(f"no {kind} {name}")
    return found


def _free(things: Things, kind: str, name: str) -> None:
    if (kind, name) in things:
        raise Refused(f"{kind} {name} is there")


def _tags(request: Request) -> frozenset[tuple[str, str]]:
    return frozenset((tag["Key"], tag["Value"]) for tag in request.get("Tags", ()))


@rule
def create_model(things: Things, request: Request) -> Answer:
    name, container = request["ModelName"], request["PrimaryContainer"]
    _free(things, "Model", name)
    answer = container["Environment"]["ANSWER"]
    things["Model", name] = Model(_tags(request), answer, container["Image"] == IMAGE)
    return {}


@rule
def describe_model(things: Things, request: Request) -> Answer:
    model: Model = _there(things, "Model", request["ModelName"])
    return {"ModelName": request["ModelName"], "PrimaryContainer": {"Environment": {"ANSWER": model.answer}}}


@rule
def create_endpoint_config(things: Things, request: Request) -> Answer:
    name = request["EndpointConfigName"]
    variants = tuple(
        Variant(each["VariantName"], each["ModelName"], each["InitialVariantWeight"], each["InitialInstanceCount"])
        for each in request["ProductionVariants"]
    )
    for variant in variants:
        _there(things, "Model", variant.model)
    _free(things, "EndpointConfig", name)
    things["EndpointConfig", name] = Config(_tags(request), variants)
    return {}


@rule
def describe_endpoint_config(things: Things, request: Request) -> Answer:
    config: Config = _there(things, "EndpointConfig", request["EndpointConfigName"])
    return {"ProductionVariants": [{"VariantName": v.name, "ModelName": v.model} for v in config.variants]}


def _served(things: Things, config_name: str) -> tuple[tuple[Variant, ...], bool]:
    """A configuration's variants with their models' answers, and whether they can be run."""
    config: Config = _there(things, "EndpointConfig", config_name)
    models = [things.get(("Model", variant.model)) for variant in config.variants]
    variants = tuple(
        replace(variant, model="", answer=model.answer if isinstance(model, Model) else "")
        for variant, model in zip(config.variants, models, strict=True)
    )
    return variants, all(isinstance(model, Model) and model.runnable for model in models)


@rule
def create_endpoint(things: Things, request: Request) -> Answer:
    name, config = request["EndpointName"], request["EndpointConfigName"]
    variants, runnable = _served(things, config)
    _free(things, "Endpoint", name)
    things["Endpoint", name] = Endpoint(_tags(request), config, variants, "Creating", runnable)
    return {}


def _changeable(things: Things, name: str) -> Endpoint:
    found: Endpoint = _there(things, "Endpoint", name)
    if found.status in (*CHANGING, "Deleting"):
        raise Refused(f"{name} is {found.status}")
    return found


@rule
def update_endpoint(things: Things, request: Request) -> Answer:
    name, config = request["EndpointName"], request["EndpointConfigName"]
    found = _changeable(things, name)
    variants, runnable = _served(things, config)
    if not runnable:
        raise Refused(f"{config} cannot be run")
    things["Endpoint", name] = Endpoint(found.tags, config, variants, "Updating")
    return {}


@rule
def update_endpoint_weights_and_capacities(things: Things, request: Request) -> Answer:
    found = _changeable(things, request["EndpointName"])
    wanted = {each["VariantName"]: each for each in request["DesiredWeightsAndCapacities"]}
    if set(wanted) - {variant.name for variant in found.variants}:
        raise Refused("no such variant")
    variants = tuple(
        replace(
            variant,
            weight=wanted.get(variant.name, {}).get("DesiredWeight", variant.weight),
            count=wanted.get(variant.name, {}).get("DesiredInstanceCount", variant.count),
        )
        for variant in found.variants
    )
    things["Endpoint", request["EndpointName"]] = replace(found, variants=variants, status="Updating")
    return {}


@rule
def describe_endpoint(things: Things, request: Request) -> Answer:
    found: Endpoint = _there(things, "Endpoint", request["EndpointName"])
    answer: dict[str, Any] = {"EndpointStatus": found.status, "EndpointConfigName": found.config}
    if found.runnable:
        answer["ProductionVariants"] = [
            {"VariantName": v.name, "DesiredWeight": v.weight, "DesiredInstanceCount": v.count} for v in found.variants
        ]
    return answer


@rule
def delete_endpoint(things: Things, request: Request) -> Answer:
    found: Endpoint = _there(things, "Endpoint", request["EndpointName"])
    things["Endpoint", request["EndpointName"]] = replace(found, status="Deleting")
    return {}


@rule
def delete_model(things: Things, request: Request) -> Answer:
    _there(things, "Model", request["ModelName"])
    del things["Model", request["ModelName"]]
    return {}


@rule
def delete_endpoint_config(things: Things, request: Request) -> Answer:
    name = request["EndpointConfigName"]
    _there(things, "EndpointConfig", name)
    for thing in things.values():
        if isinstance(thing, Endpoint) and thing.config == name and thing.status in CHANGING:
            raise Refused(f"an endpoint is {thing.status} with {name}")
    del things["EndpointConfig", name]
    return {}


@rule
def create_model_package_group(things: Things, request: Request) -> Answer:
    name = request["ModelPackageGroupName"]
    _free(things, "ModelPackageGroup", name)
    things["ModelPackageGroup", name] = Group(_tags(request))
    return {}


@rule
def describe_model_package_group(things: Things, request: Request) -> Answer:
    _there(things, "ModelPackageGroup", request["ModelPackageGroupName"])
    return {"ModelPackageGroupName": request["ModelPackageGroupName"]}


@rule
def delete_model_package_group(things: Things, request: Request) -> Answer:
    name = request["ModelPackageGroupName"]
    _there(things, "ModelPackageGroup", name)
    if any(kind == "ModelPackage" and package.startswith(f"{name}/") for kind, package in things):
        raise Refused(f"{name} is not empty")
    del things["ModelPackageGroup", name]
    return {}


@rule
def create_model_package(things: Things, request: Request) -> Answer:
    """The same token again answers the same package."""
    group, token = request["ModelPackageGroupName"], request["ClientToken"]
    for (_, name), thing in things.items():
        if isinstance(thing, Package) and thing.token == token:
            return {"ModelPackageArn": Ending(f"/{name}")}
    found: Group = _there(things, "ModelPackageGroup", group)
    name = f"{group}/{found.given + 1}"
    things["ModelPackageGroup", group] = replace(found, given=found.given + 1)
    approval = request["ModelApprovalStatus"]
    things["ModelPackage", name] = Package(frozenset(), token, approval)
    return {"ModelPackageArn": Ending(f"/{name}")}


@rule
def update_model_package(things: Things, request: Request) -> Answer:
    name = request["ModelPackageArn"].partition("/")[2]
    found: Package = _there(things, "ModelPackage", name)
    things["ModelPackage", name] = replace(found, approval=request["ModelApprovalStatus"])
    return {}


@rule
def describe_model_package(things: Things, request: Request) -> Answer:
    found: Package = _there(things, "ModelPackage", request["ModelPackageName"].partition("/")[2])
    return {"ModelApprovalStatus": found.approval}


@rule
def delete_model_package(things: Things, request: Request) -> Answer:
    name = request["ModelPackageName"].partition("/")[2]
    _there(things, "ModelPackage", name)
    del things["ModelPackage", name]
    return {}


def _by_arn(things: Things, arn: str) -> tuple[str, str]:
    """Kind and name of the resource whose tags these are; names in ARNs are lower case, as are all names here."""
    path, _, name = arn.rpartition(":")[2].partition("/")
    for kind, other in things:
        if kind.lower() == path.replace("-", "") and other == name:
            return kind, other
    raise Refused(f"nothing has the ARN {arn}")


@rule
def add_tags(things: Things, request: Request) -> Answer:
    key = _by_arn(things, request["ResourceArn"])
    tags = {**dict(things[key].tags), **dict(_tags(request))}
    things[key] = replace(things[key], tags=frozenset(tags.items()))
    return {}


@rule
def delete_tags(things: Things, request: Request) -> Answer:
    key = _by_arn(things, request["ResourceArn"])
    left = {name: value for name, value in things[key].tags if name not in request["TagKeys"]}
    things[key] = replace(things[key], tags=frozenset(left.items()))
    return {}


@rule
def list_tags(things: Things, request: Request) -> Answer:
    tags = things[_by_arn(things, request["ResourceArn"])].tags
    return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags)]}


def _listing(kind: str, members: str, member: str) -> Rule:
    def listing(things: Things, request: Request) -> Answer:
        names = sorted(name for other, name in things if other == kind and request["NameContains"] in name)
        return {members: [{member: name} for name in names]}

    return listing


RULES["list_models"] = _listing("Model", "Models", "ModelName")
RULES["list_endpoint_configs"] = _listing("EndpointConfig", "EndpointConfigs", "EndpointConfigName")
RULES["list_endpoints"] = _listing("Endpoint", "Endpoints", "EndpointName")
RULES["list_model_package_groups"] = _listing(
    "ModelPackageGroup", "ModelPackageGroupSummaryList", "ModelPackageGroupName"
)


@rule
def list_model_packages(things: Things, request: Request) -> Answer:
    group = request["ModelPackageGroupName"]
    _there(things, "ModelPackageGroup", group)
    names = sorted(name for kind, name in things if kind == "ModelPackage" and name.startswith(f"{group}/"))
    return {"ModelPackageSummaryList": [{"ModelPackageArn": Ending(f"/{name}")} for name in names]}

"""The rest of the reference: model packages and their groups, tags, lists."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.crash.rules import RULES, Answer, Refused, Request, Rule, free, rule, tags_of, there
from benchmarks.crash.world import Ending, Group, Package, Things


@rule
def create_model_package_group(things: Things, request: Request) -> Answer:
    name = request["ModelPackageGroupName"]
    free(things, "ModelPackageGroup", name)
    things["ModelPackageGroup", name] = Group(tags_of(request))
    return {}


@rule
def describe_model_package_group(things: Things, request: Request) -> Answer:
    there(things, "ModelPackageGroup", request["ModelPackageGroupName"])
    return {"ModelPackageGroupName": request["ModelPackageGroupName"]}


@rule
def delete_model_package_group(things: Things, request: Request) -> Answer:
    name = request["ModelPackageGroupName"]
    there(things, "ModelPackageGroup", name)
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
    found: Group = there(things, "ModelPackageGroup", group)
    name = f"{group}/{found.given + 1}"
    things["ModelPackageGroup", group] = replace(found, given=found.given + 1)
    approval = request["ModelApprovalStatus"]
    things["ModelPackage", name] = Package(frozenset(), token, approval)
    return {"ModelPackageArn": Ending(f"/{name}")}


@rule
def update_model_package(things: Things, request: Request) -> Answer:
    name = request["ModelPackageArn"].partition("/")[2]
    found: Package = there(things, "ModelPackage", name)
    things["ModelPackage", name] = replace(found, approval=request["ModelApprovalStatus"])
    return {}


@rule
def describe_model_package(things: Things, request: Request) -> Answer:
    found: Package = there(things, "ModelPackage", request["ModelPackageName"].partition("/")[2])
    return {"ModelApprovalStatus": found.approval}


@rule
def delete_model_package(things: Things, request: Request) -> Answer:
    name = request["ModelPackageName"].partition("/")[2]
    there(things, "ModelPackage", name)
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
    tags = {**dict(things[key].tags), **dict(tags_of(request))}
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
    there(things, "ModelPackageGroup", group)
    names = sorted(name for kind, name in things if kind == "ModelPackage" and name.startswith(f"{group}/"))
    return {"ModelPackageSummaryList": [{"ModelPackageArn": Ending(f"/{name}")} for name in names]}

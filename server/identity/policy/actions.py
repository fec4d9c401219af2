"""What a call must be allowed to do: its action on its resources, and what else comes with it.

AWS's service authorization reference is regular where its service models are: SageMaker's `CreateModel` acts on
`model/NAME` because its input has ModelName and the model's ModelArn begins so. What is not regular is in the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from server.identity.policy import sagemaker, services
from server.identity.policy.context import Context, of_pass_role, of_request_tags
from server.identity.policy.scope import Scope

EVERYTHING = "*"
PREFIXES: Mapping[str, str] = {"monitoring": "cloudwatch"}
"""Action prefixes that differ from the name that requests are signed for."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One action that must be allowed on each of the resources. `context` is added to the request's."""

    action: str
    resources: tuple[str, ...]
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def asks(signing_name: str, operation: Any, request: Mapping[str, Any], scope: Scope) -> tuple[Ask, ...]:
    """Everything a call needs, its own action first. `operation` is botocore's model of it."""
    prefix = PREFIXES.get(signing_name, signing_name)
    find = _FINDERS.get(signing_name)
    resources = tuple(dict.fromkeys(find(operation, request, scope))) if find is not None else ()
    resources = resources or (EVERYTHING,)
    found = [Ask(f"{prefix}:{name}", resources) for name in services.ACTIONS.get(operation.name, (operation.name,))]
    if signing_name == "sagemaker":
        found.extend(_with(operation, request, resources))
    return tuple(found)


def _with(operation: Any, request: Mapping[str, Any], resources: tuple[str, ...]) -> Iterator[Ask]:
    """Making something with tags takes AddTags; handing a role over takes PassRole."""
    if operation.name.startswith("Create") and request.get("Tags"):
        tags = {str(tag["Key"]): str(tag["Value"]) for tag in request["Tags"]}
        made: Context = {"sagemaker:taggingaction": (operation.name,)}
        yield Ask("sagemaker:AddTags", resources[:1], made | of_request_tags(tags))
    for role in dict.fromkeys(_roles(operation.input_shape, request)):
        yield Ask("iam:PassRole", (role,), of_pass_role("sagemaker.amazonaws.com", resources[0]))


def _roles(shape: Any, value: Any) -> Iterator[str]:
    if shape is None:
        return
    if shape.type_name == "structure" and isinstance(value, Mapping):
        for name, inner in value.items():
            if name in shape.members:
                if name in _role_members(shape) and isinstance(inner, str):
                    yield inner
                else:
                    yield from _roles(shape.members[name], inner)
    elif shape.type_name == "list" and isinstance(value, list | tuple):
        for item in value:
            yield from _roles(shape.member, item)


@lru_cache(maxsize=1024)
def _role_members(shape: Any) -> frozenset[str]:
    """Members that hold a role to be handed over: those of the model's shape RoleArn, whatever they are called."""
    return frozenset(name for name, member in shape.members.items() if member.name == "RoleArn")


Finder = Callable[[Any, Mapping[str, Any], Scope], Iterator[str]]
_FINDERS: Mapping[str, Finder] = {
    "sagemaker": sagemaker.resources,
    "iam": services.iam,
    "sts": services.sts,
    "kms": services.kms,
    "logs": services.logs,
    "monitoring": services.cloudwatch,
    "cloudtrail": services.cloudtrail,
    "servicequotas": services.service_quotas,
}

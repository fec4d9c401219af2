"""The resources that calls of the services beside SageMaker act on, as the service authorization reference has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from server.identity.policy.scope import Scope

Request = Mapping[str, Any]

ACTIONS: Mapping[str, tuple[str, ...]] = {"ReEncrypt": ("ReEncryptFrom", "ReEncryptTo")}
"""Operations whose actions are called otherwise."""

_IAM_MEMBERS = (
    ("UserName", "user"), ("RoleName", "role"), ("GroupName", "group"), ("InstanceProfileName", "instance-profile"),
)  # fmt: skip
_IAM_FIRST = {
    "AddUserToGroup": "GroupName",
    "RemoveUserFromGroup": "GroupName",
    "AddRoleToInstanceProfile": "InstanceProfileName",
    "RemoveRoleFromInstanceProfile": "InstanceProfileName",
}
_OWN_USER = frozenset(
    "ChangePassword CreateAccessKey DeleteAccessKey GetUser ListAccessKeys ListMFADevices ListSigningCertificates"
    " ListSSHPublicKeys ListServiceSpecificCredentials UpdateAccessKey".split()
)
"""Without a UserName these are about the caller."""


def iam(operation: Any, request: Request, scope: Scope) -> Iterator[str]:
    """A user, role, group or policy. A new one's path is in the request, an old one's is looked up."""
    first = _IAM_FIRST.get(operation.name)
    for member, kind in _IAM_MEMBERS:
        if request.get(member) and first in (None, member):
            yield _iam_arn(kind, request[member], request.get("Path"), scope)
            return
    if operation.name == "CreatePolicy":
        yield _iam_arn("policy", request["PolicyName"], request.get("Path", "/"), scope)
    for member in ("PolicyArn", "PolicySourceArn", "Arn", "OpenIDConnectProviderArn", "SAMLProviderArn"):
        if request.get(member):
            yield request[member]
            return
    if operation.name in _OWN_USER and ":user/" in scope.principal_arn:
        yield scope.principal_arn


def _iam_arn(kind: str, name: str, path: str | None, scope: Scope) -> str:
    known = scope.lookup(kind, name) if path is None else None
    return known or f"arn:aws:iam::{scope.account}:{kind}{path or '/'}{name}"


def sts(operation: Any, request: Request, scope: Scope) -> Iterator[str]:
    if operation.name.startswith("AssumeRole"):
        yield request["RoleArn"]
    elif operation.name == "GetFederationToken":
        yield f"arn:aws:sts::{scope.account}:federated-user/{request['Name']}"


def kms(operation: Any, request: Request, scope: Scope) -> Iterator[str]:
    """Keys by id, ARN or alias, and aliases by name."""
    if request.get("AliasName") and operation.name.endswith("Alias"):
        yield scope.arn("kms", request["AliasName"])
        if operation.name == "DeleteAlias" and (key := scope.lookup("key", request["AliasName"])):
            yield key
    for member in ("KeyId", "TargetKeyId", "SourceKeyId", "DestinationKeyId"):
        if given := request.get(member):
            fallback = given if given.startswith("arn:") else scope.arn("kms", _key_path(given))
            yield scope.lookup("key", given) or fallback


def _key_path(given: str) -> str:
    return given if given.startswith("alias/") else f"key/{given}"


def logs(_operation: Any, request: Request, scope: Scope) -> Iterator[str]:
    """Log groups and streams; what is asked of a group is asked of `log-group:NAME:log-stream:`."""
    groups = [request.get("logGroupName"), request.get("logGroupIdentifier")]
    groups += [*request.get("logGroupNames", ()), *request.get("logGroupIdentifiers", ())]
    for group in groups:
        if group:
            name = group.split(":log-group:")[-1].removesuffix(":*")
            yield scope.arn("logs", f"log-group:{name}:log-stream:{request.get('logStreamName', '')}")
    if given := request.get("resourceArn"):
        yield given


def cloudwatch(operation: Any, request: Request, scope: Scope) -> Iterator[str]:
    """Alarms and dashboards; metrics have no ARNs."""
    if "AlarmRule" in request or operation.name.endswith(("MetricAlarm", "Alarms", "AlarmActions", "AlarmState")):
        for name in [request.get("AlarmName"), *request.get("AlarmNames", ())]:
            if name:
                yield scope.arn("cloudwatch", f"alarm:{name}")
    if given := request.get("ResourceARN"):
        yield given
    for name in [request.get("DashboardName"), *request.get("DashboardNames", ())]:
        if name:
            yield f"arn:aws:cloudwatch::{scope.account}:dashboard/{name}"


def cloudtrail(operation: Any, request: Request, scope: Scope) -> Iterator[str]:
    """Trails by name or ARN."""
    if "Trail" in operation.name or operation.name in ("StartLogging", "StopLogging"):
        for member in ("Name", "TrailName"):
            if (given := request.get(member)) and operation.name not in ("DescribeTrails", "ListTrails"):
                yield given if given.startswith("arn:") else scope.arn("cloudtrail", f"trail/{given}")
    elif (given := request.get("TrailName")) and operation.name.endswith("Selectors"):
        yield given if given.startswith("arn:") else scope.arn("cloudtrail", f"trail/{given}")


def service_quotas(operation: Any, request: Request, scope: Scope) -> Iterator[str]:
    """A quota, where more of it is asked for; everything else has no resource."""
    if operation.name in ("RequestServiceQuotaIncrease", "PutServiceQuotaIncreaseRequestIntoTemplate"):
        yield scope.arn("servicequotas", f"{request['ServiceCode']}/{request['QuotaCode']}")

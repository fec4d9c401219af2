"""Managed policies: an account's own with their versions, and those that AWS has for everyone."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from server.control.iam.documents import checked
from server.control.iam.service import IAM, directory, encoded, paged, tag_list, tag_map
from server.control.operations import Answer, Context, Request
from server.errors import InUse, LimitExceeded, NotFound, Refusal
from server.identity import names
from server.identity.directory import GROUP, POLICY, ROLE, USER, Directory
from server.identity.policy.document import Use
from server.identity.policy.managed import MANAGED, Managed
from server.store import tags
from server.store.store import Resource

VERSIONS = 5


def own_policy(unit: Directory, arn: str) -> Resource:
    """A policy that the account can change. Raises NotFound."""
    found = unit.by_arn(POLICY, arn)
    if found is None:
        raise NotFound(f"Policy {arn} was not found.", field="policyArn")
    return found


def attachable(unit: Directory, arn: str) -> str:
    """Raises NoSuchEntity."""
    if arn not in MANAGED and unit.by_arn(POLICY, arn) is None:
        raise Refusal("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", status=404)
    return arn


def boundary_arn(unit: Directory, arn: str | None) -> str | None:
    return None if arn is None else attachable(unit, arn)


def name_of(arn: str) -> str:
    return arn.rpartition("/")[2]


@IAM.operation
def create_policy(context: Context, request: Request) -> Answer:
    document = checked(request["PolicyDocument"], Use.MANAGED)
    given = tag_map(request.get("Tags", ()))
    with directory(context).change() as unit:
        made = unit.create(POLICY, request["PolicyName"], request.get("Path", "/"), {
            "Description": request.get("Description"), "DefaultVersionId": "v1", "Made": 1,
            "Versions": [_version("v1", document)],
        })  # fmt: skip
        tags.add(unit.store, made, given)
    return {"Policy": {**_view(made, Counter(), Counter()), "Tags": tag_list(given) or None}}


@IAM.operation
def get_policy(context: Context, request: Request) -> Answer:
    unit = directory(context)
    attached, bounding = _uses(unit)
    if managed := MANAGED.get(request["PolicyArn"]):
        return {"Policy": _managed(managed, attached, bounding)}
    found = own_policy(unit, request["PolicyArn"])
    return {"Policy": {**_view(found, attached, bounding), "Tags": tag_list(unit.tags(found)) or None}}


@IAM.operation
def list_policies(context: Context, request: Request) -> Answer:
    unit = directory(context)
    attached, bounding = _uses(unit)
    scope = request.get("Scope", "All")
    found = [_view(row, attached, bounding) for row in unit.all(POLICY)] if scope != "AWS" else []
    found += [_managed(each, attached, bounding) for each in MANAGED.values()] if scope != "Local" else []
    used = bounding if request.get("PolicyUsageFilter") == "PermissionsBoundary" else attached
    filtered = request.get("OnlyAttached") or "PolicyUsageFilter" in request
    kept = [
        policy for policy in found
        if policy["Path"].startswith(request.get("PathPrefix", "/")) and (used[policy["Arn"]] or not filtered)
    ]  # fmt: skip
    return paged(request, "Policies", sorted(kept, key=_order), _order)


@IAM.operation
def delete_policy(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = own_policy(unit, request["PolicyArn"])
        attached, bounding = _uses(unit)
        if attached[found.arn] or bounding[found.arn]:
            raise InUse("Cannot delete a policy attached to entities.")
        if len(found.document["Versions"]) > 1:
            raise InUse("This policy has more than one version. Before you delete a policy, you must delete the "
                        "policy's versions. The default version is deleted with the policy.")  # fmt: skip
        unit.store.remove(found)
    return {}


@IAM.operation
def create_policy_version(context: Context, request: Request) -> Answer:
    document = checked(request["PolicyDocument"], Use.MANAGED)
    with directory(context).change() as unit:
        found = own_policy(unit, request["PolicyArn"])
        if len(found.document["Versions"]) >= VERSIONS:
            raise LimitExceeded(f"A managed policy can have up to {VERSIONS} versions. Before you create a new "
                                "version, you must delete an existing version.")  # fmt: skip
        number = found.document["Made"] + 1
        made = _version(f"v{number}", document)
        default = made["VersionId"] if request.get("SetAsDefault") else found.document["DefaultVersionId"]
        unit.edit(found, Versions=[*found.document["Versions"], made], Made=number, DefaultVersionId=default)
    shown = {name: value for name, value in _shown(made, default).items() if name != "Document"}
    return {"PolicyVersion": shown}


@IAM.operation
def get_policy_version(context: Context, request: Request) -> Answer:
    versions, default = _versions(directory(context), request["PolicyArn"])
    for version in versions:
        if version["VersionId"] == request["VersionId"]:
            return {"PolicyVersion": _shown(version, default)}
    raise _no_version(request)


@IAM.operation
def list_policy_versions(context: Context, request: Request) -> Answer:
    """Newest first, without their documents."""
    versions, default = _versions(directory(context), request["PolicyArn"])
    shown = [{n: v for n, v in _shown(each, default).items() if n != "Document"} for each in reversed(versions)]
    return paged(request, "Versions", shown, lambda each: f"{10**9 - int(each['VersionId'][1:]):09}")


@IAM.operation
def set_default_policy_version(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = own_policy(unit, request["PolicyArn"])
        if all(each["VersionId"] != request["VersionId"] for each in found.document["Versions"]):
            raise _no_version(request)
        unit.edit(found, DefaultVersionId=request["VersionId"])
    return {}


@IAM.operation
def delete_policy_version(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = own_policy(unit, request["PolicyArn"])
        kept = [each for each in found.document["Versions"] if each["VersionId"] != request["VersionId"]]
        if len(kept) == len(found.document["Versions"]):
            raise _no_version(request)
        if request["VersionId"] == found.document["DefaultVersionId"]:
            raise InUse("Cannot delete the default version of a policy.")
        unit.edit(found, Versions=kept)
    return {}


@IAM.operation
def list_entities_for_policy(context: Context, request: Request) -> Answer:
    unit = directory(context)
    arn = request["PolicyArn"]
    if arn not in MANAGED:
        own_policy(unit, arn)
    uses = {"PermissionsPolicy": _attached, "PermissionsBoundary": _bounding}
    kept = [uses[request["PolicyUsageFilter"]]] if "PolicyUsageFilter" in request else list(uses.values())
    wanted = request.get("EntityFilter")
    found = [
        (entity, row)
        for entity in (GROUP, ROLE, USER)
        if wanted in (None, entity.title)
        for row in unit.all(entity)
        if any(arn in use(row) for use in kept) and row.document["Path"].startswith(request.get("PathPrefix", "/"))
    ]
    answer = paged(request, "found", found, lambda each: f"{each[0].title} {each[1].name}")
    shown: dict[str, list[Mapping[str, Any]]] = {"PolicyGroups": [], "PolicyRoles": [], "PolicyUsers": []}
    for entity, row in answer.pop("found"):
        shown[f"Policy{entity.title}s"].append(row.document)
    return {**answer, **shown}


def _version(id: str, document: str) -> dict[str, Any]:
    return {"VersionId": id, "Document": document, "CreateDate": datetime.now(UTC).timestamp()}


def _versions(unit: Directory, arn: str) -> tuple[list[dict[str, Any]], str]:
    """Oldest first, and which of them counts."""
    if managed := MANAGED.get(arn):
        return [{"VersionId": managed.version, "Document": managed.text}], managed.version
    document = own_policy(unit, arn).document
    return document["Versions"], document["DefaultVersionId"]


def _shown(version: Mapping[str, Any], default: str) -> dict[str, Any]:
    return {
        **version, "Document": encoded(version["Document"]), "IsDefaultVersion": version["VersionId"] == default,
    }  # fmt: skip


def _no_version(request: Request) -> NotFound:
    return NotFound(f"Policy {request['PolicyArn']} version {request['VersionId']} does not exist or is not "
                    "attachable.", field="versionId")  # fmt: skip


def _attached(row: Resource) -> list[str]:
    return list(row.document["Attached"])


def _bounding(row: Resource) -> list[str]:
    boundary = row.document.get("PermissionsBoundary")
    return [boundary] if boundary else []


def _uses(unit: Directory) -> tuple[Counter[str], Counter[str]]:
    """How often each policy is attached, and is a boundary, by its ARN."""
    rows = [row for entity in (USER, GROUP, ROLE) for row in unit.all(entity)]
    attached = Counter(arn for row in rows for arn in _attached(row))
    return attached, Counter(arn for row in rows for arn in _bounding(row))


def _view(row: Resource, attached: Counter[str], bounding: Counter[str]) -> dict[str, Any]:
    return {
        **row.document, "Arn": row.arn, "IsAttachable": True, "AttachmentCount": attached[row.arn],
        "PermissionsBoundaryUsageCount": bounding[row.arn], "CreateDate": row.created_at, "UpdateDate": row.modified_at,
    }  # fmt: skip


def _managed(policy: Managed, attached: Counter[str], bounding: Counter[str]) -> dict[str, Any]:
    """One of AWS's own. It has no dates here: it is part of Hearth."""
    letters = base64.b32encode(hashlib.sha256(policy.arn.encode()).digest()).decode()
    return {
        "PolicyName": policy.name, "PolicyId": names.POLICY + letters[:17], "Arn": policy.arn, "Path": policy.path,
        "DefaultVersionId": policy.version, "IsAttachable": True, "AttachmentCount": attached[policy.arn],
        "PermissionsBoundaryUsageCount": bounding[policy.arn], "Description": policy.description,
    }  # fmt: skip


def _order(policy: Mapping[str, Any]) -> str:
    return f"{policy['PolicyName'].lower()} {policy['Arn']}"

"""Roles: who may assume them, and for how long."""

from __future__ import annotations

from server.control.iam.documents import checked
from server.control.iam.policies import boundary_arn
from server.control.iam.service import IAM, below, directory, paged, tag_map, view
from server.control.operations import Answer, Context, Request
from server.errors import InUse
from server.identity.directory import ROLE
from server.identity.policy.document import Use
from server.store import tags

SESSION_S = 3600
"""MaxSessionDuration when none is given."""


@IAM.operation
def create_role(context: Context, request: Request) -> Answer:
    trust = checked(request["AssumeRolePolicyDocument"], Use.TRUST)
    given = tag_map(request.get("Tags", ()))
    with directory(context).change() as unit:
        document = {
            "Inline": {}, "Attached": [], "AssumeRolePolicyDocument": trust,
            "Description": request.get("Description"),
            "MaxSessionDuration": request.get("MaxSessionDuration", SESSION_S),
            "PermissionsBoundary": boundary_arn(unit, request.get("PermissionsBoundary")),
        }  # fmt: skip
        made = unit.create(ROLE, request["RoleName"], request.get("Path", "/"), document)
        tags.add(unit.store, made, given)
    return {"Role": view(ROLE, made, given)}


@IAM.operation
def get_role(context: Context, request: Request) -> Answer:
    unit = directory(context)
    found = unit.find(ROLE, request["RoleName"])
    return {"Role": view(ROLE, found, unit.tags(found))}


@IAM.operation
def list_roles(context: Context, request: Request) -> Answer:
    rows = list(filter(below(request.get("PathPrefix", "/")), directory(context).all(ROLE)))
    answer = paged(request, "Roles", rows, lambda row: row.name)
    return {**answer, "Roles": [view(ROLE, row) for row in answer["Roles"]]}


@IAM.operation
def update_role(context: Context, request: Request) -> Answer:
    changed = {name: request[name] for name in ("Description", "MaxSessionDuration") if name in request}
    with directory(context).change() as unit:
        unit.edit(unit.find(ROLE, request["RoleName"]), **changed)
    return {}


@IAM.operation
def update_role_description(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        changed = unit.edit(unit.find(ROLE, request["RoleName"]), Description=request["Description"])
    return {"Role": view(ROLE, changed)}


@IAM.operation
def update_assume_role_policy(context: Context, request: Request) -> Answer:
    trust = checked(request["PolicyDocument"], Use.TRUST)
    with directory(context).change() as unit:
        unit.edit(unit.find(ROLE, request["RoleName"]), AssumeRolePolicyDocument=trust)
    return {}


@IAM.operation
def delete_role(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = unit.find(ROLE, request["RoleName"])
        if found.document["Attached"]:
            raise InUse("Cannot delete entity, must detach all policies first.")
        if found.document["Inline"]:
            raise InUse("Cannot delete entity, must delete policies first.")
        unit.store.remove(found)
    return {}

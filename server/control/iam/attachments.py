"""Managed policies attached to users, groups and roles, and set as permissions boundaries."""

from __future__ import annotations

from server.control.iam.policies import attachable, boundary_arn, name_of
from server.control.iam.service import IAM, directory, paged
from server.control.operations import Answer, Context, Request
from server.errors import LimitExceeded, NotFound
from server.identity.directory import GROUP, ROLE, USER, Entity

MOST = 10
"""Policies attached to one."""


def _builds(entity: Entity) -> None:
    title, member = entity.title, entity.name_member

    def attach(context: Context, request: Request) -> Answer:
        with directory(context).change() as unit:
            found = unit.find(entity, request[member])
            attached = dict.fromkeys((*found.document["Attached"], attachable(unit, request["PolicyArn"])))
            if len(attached) > MOST:
                raise LimitExceeded(f"Cannot exceed quota for PoliciesPer{title}: {MOST}")
            unit.edit(found, Attached=list(attached))
        return {}

    def detach(context: Context, request: Request) -> Answer:
        with directory(context).change() as unit:
            found = unit.find(entity, request[member])
            attached = list(found.document["Attached"])
            if request["PolicyArn"] not in attached:
                raise NotFound(f"Policy {request['PolicyArn']} was not found.")
            attached.remove(request["PolicyArn"])
            unit.edit(found, Attached=attached)
        return {}

    def listing(context: Context, request: Request) -> Answer:
        prefix = request.get("PathPrefix", "/")
        arns = directory(context).find(entity, request[member]).document["Attached"]
        kept = sorted((name_of(arn), arn) for arn in arns if f"/{arn.partition('/')[2]}".startswith(prefix))
        answer = paged(request, "AttachedPolicies", kept, "\0".join)
        named = [{"PolicyName": name, "PolicyArn": arn} for name, arn in answer["AttachedPolicies"]]
        return {**answer, "AttachedPolicies": named}

    IAM.register(f"Attach{title}Policy", attach)
    IAM.register(f"Detach{title}Policy", detach)
    IAM.register(f"ListAttached{title}Policies", listing)


def _bounds(entity: Entity) -> None:
    title, member = entity.title, entity.name_member

    def put(context: Context, request: Request) -> Answer:
        with directory(context).change() as unit:
            found = unit.find(entity, request[member])
            unit.edit(found, PermissionsBoundary=boundary_arn(unit, request["PermissionsBoundary"]))
        return {}

    def delete(context: Context, request: Request) -> Answer:
        with directory(context).change() as unit:
            found = unit.find(entity, request[member])
            if not found.document["PermissionsBoundary"]:
                raise NotFound(f"The {title.lower()} with name {request[member]} has no permissions boundary.")
            unit.edit(found, PermissionsBoundary=None)
        return {}

    IAM.register(f"Put{title}PermissionsBoundary", put)
    IAM.register(f"Delete{title}PermissionsBoundary", delete)


for _entity in (USER, GROUP, ROLE):
    _builds(_entity)
for _entity in (USER, ROLE):
    _bounds(_entity)

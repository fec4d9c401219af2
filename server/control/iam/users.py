"""Users."""

from __future__ import annotations

from server.control.iam.policies import boundary_arn
from server.control.iam.service import IAM, below, directory, paged, tag_map, view
from server.control.operations import Answer, Context, Request
from server.errors import BadRequest, InUse
from server.identity.directory import ACCESS_KEY, API_KEY, USER, Directory
from server.store import tags
from server.store.store import Resource


@IAM.operation
def create_user(context: Context, request: Request) -> Answer:
    given = tag_map(request.get("Tags", ()))
    with directory(context).change() as unit:
        bound = boundary_arn(unit, request.get("PermissionsBoundary"))
        made = unit.create_user(request["UserName"], request.get("Path", "/"), boundary=bound)
        tags.add(unit.store, made, given)
    return {"User": view(USER, made, given)}


def called(context: Context, unit: Directory, request: Request) -> Resource:
    """The user that is named, else the one who calls. Raises NotFound, and BadRequest where that is no user."""
    if "UserName" in request:
        return unit.find(USER, request["UserName"])
    found = unit.by_id(USER, context.principal.id)
    if found is None:
        raise BadRequest("Must specify userName when calling with non-User credentials", field="userName")
    return found


@IAM.operation
def get_user(context: Context, request: Request) -> Answer:
    """Without a name: the caller, who may be the account's root."""
    unit = directory(context)
    caller = context.principal
    if "UserName" not in request and caller.id == caller.account:
        return {"User": {"UserId": caller.account, "Arn": caller.arn, "Path": "/"}}
    found = called(context, unit, request)
    return {"User": view(USER, found, unit.tags(found))}


@IAM.operation
def list_users(context: Context, request: Request) -> Answer:
    rows = list(filter(below(request.get("PathPrefix", "/")), directory(context).all(USER)))
    answer = paged(request, "Users", rows, lambda row: row.name)
    return {**answer, "Users": [view(USER, row) for row in answer["Users"]]}


@IAM.operation
def update_user(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = unit.find(USER, request["UserName"])
        name, path = request.get("NewUserName", request["UserName"]), request.get("NewPath", found.document["Path"])
        unit.rename(USER, found, name, path)
    return {}


@IAM.operation
def delete_user(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = unit.find(USER, request["UserName"])
        document, owner = found.document, found.document["UserId"]
        for held, what in (
            (unit.owned(ACCESS_KEY, owner), "delete access keys"),
            (unit.owned(API_KEY, owner), "delete service specific credentials"),
            (document["Attached"], "detach all policies"),
            (document["Inline"], "delete policies"),
            (document["Groups"], "remove users from group"),
        ):
            if held:
                raise InUse(f"Cannot delete entity, must {what} first.")
        unit.store.remove(found)
    return {}

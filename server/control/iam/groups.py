"""Groups, and who is in them."""

from __future__ import annotations

from server.control.iam.service import IAM, below, directory, paged, view
from server.control.operations import Answer, Context, Request
from server.errors import InUse, LimitExceeded
from server.identity.directory import GROUP, USER

GROUPS_OF_A_USER = 10


@IAM.operation
def create_group(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        made = unit.create(GROUP, request["GroupName"], request.get("Path", "/"), {"Inline": {}, "Attached": []})
    return {"Group": view(GROUP, made)}


@IAM.operation
def get_group(context: Context, request: Request) -> Answer:
    """The group, and its users by page."""
    unit = directory(context)
    found = unit.find(GROUP, request["GroupName"])
    answer = paged(request, "Users", unit.members(found), lambda row: row.name)
    return {**answer, "Group": view(GROUP, found), "Users": [view(USER, row) for row in answer["Users"]]}


@IAM.operation
def list_groups(context: Context, request: Request) -> Answer:
    rows = list(filter(below(request.get("PathPrefix", "/")), directory(context).all(GROUP)))
    answer = paged(request, "Groups", rows, lambda row: row.name)
    return {**answer, "Groups": [view(GROUP, row) for row in answer["Groups"]]}


@IAM.operation
def update_group(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = unit.find(GROUP, request["GroupName"])
        name, path = request.get("NewGroupName", request["GroupName"]), request.get("NewPath", found.document["Path"])
        unit.rename(GROUP, found, name, path)
    return {}


@IAM.operation
def delete_group(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        found = unit.find(GROUP, request["GroupName"])
        for held, what in (
            (unit.members(found), "remove users from group"),
            (found.document["Attached"], "detach all policies"),
            (found.document["Inline"], "delete policies"),
        ):
            if held:
                raise InUse(f"Cannot delete entity, must {what} first.")
        unit.store.remove(found)
    return {}


@IAM.operation
def add_user_to_group(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        group, user = unit.find(GROUP, request["GroupName"]), unit.find(USER, request["UserName"])
        groups = dict.fromkeys((*user.document["Groups"], group.document["GroupId"]))
        if len(groups) > GROUPS_OF_A_USER:
            raise LimitExceeded(f"Cannot exceed quota for GroupsPerUser: {GROUPS_OF_A_USER}")
        unit.edit(user, Groups=list(groups))
    return {}


@IAM.operation
def remove_user_from_group(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        group, user = unit.find(GROUP, request["GroupName"]), unit.find(USER, request["UserName"])
        unit.edit(user, Groups=[id for id in user.document["Groups"] if id != group.document["GroupId"]])
    return {}


@IAM.operation
def list_groups_for_user(context: Context, request: Request) -> Answer:
    unit = directory(context)
    answer = paged(request, "Groups", unit.groups_of(unit.find(USER, request["UserName"])), lambda row: row.name)
    return {**answer, "Groups": [view(GROUP, row) for row in answer["Groups"]]}

"""Tags of users, roles and policies."""

from __future__ import annotations

from server.control.iam.policies import own_policy
from server.control.iam.service import IAM, directory, paged, tag_list, tag_map
from server.control.operations import Answer, Context, Request
from server.identity.directory import POLICY, ROLE, USER, Directory, Entity
from server.store import tags
from server.store.store import Resource


def _builds(entity: Entity) -> None:
    def found(unit: Directory, request: Request) -> Resource:
        if entity is POLICY:
            return own_policy(unit, request["PolicyArn"])
        return unit.find(entity, request[entity.name_member])

    def tag(context: Context, request: Request) -> Answer:
        given = tag_map(request["Tags"])
        with directory(context).change() as unit:
            tags.add(unit.store, found(unit, request), given)
        return {}

    def untag(context: Context, request: Request) -> Answer:
        with directory(context).change() as unit:
            tags.remove(unit.store, found(unit, request), request["TagKeys"])
        return {}

    def listing(context: Context, request: Request) -> Answer:
        unit = directory(context)
        return paged(request, "Tags", tag_list(unit.tags(found(unit, request))), lambda each: each["Key"])

    IAM.register(f"Tag{entity.title}", tag)
    IAM.register(f"Untag{entity.title}", untag)
    IAM.register(f"List{entity.title}Tags", listing)


for _entity in (USER, ROLE, POLICY):
    _builds(_entity)

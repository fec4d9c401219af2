"""Policies that are part of a user, group or role: Put, Get, List and Delete of each."""

from __future__ import annotations

from server.control.iam.documents import checked
from server.control.iam.service import IAM, directory, encoded, paged
from server.control.operations import Answer, Context, Request
from server.errors import LimitExceeded, NotFound
from server.identity.directory import GROUP, ROLE, USER, Entity
from server.identity.policy.document import Use, size

LARGEST = {USER: 2048, GROUP: 5120, ROLE: Use.INLINE.limit}
"""Characters of all inline policies of one together, white space aside."""


def _builds(entity: Entity) -> None:
    title, member = entity.title, entity.name_member

    def put(context: Context, request: Request) -> Answer:
        document = checked(request["PolicyDocument"], Use.INLINE)
        with directory(context).change() as unit:
            found = unit.find(entity, request[member])
            inline = {**found.document["Inline"], request["PolicyName"]: document}
            if sum(map(size, inline.values())) > LARGEST[entity]:
                raise LimitExceeded(
                    f"Maximum policy size of {LARGEST[entity]} bytes exceeded for {title.lower()} {request[member]}"
                )
            unit.edit(found, Inline=inline)
        return {}

    def get(context: Context, request: Request) -> Answer:
        inline = directory(context).find(entity, request[member]).document["Inline"]
        if request["PolicyName"] not in inline:
            raise _absent(entity, request)
        return {
            member: request[member], "PolicyName": request["PolicyName"],
            "PolicyDocument": encoded(inline[request["PolicyName"]]),
        }  # fmt: skip

    def listing(context: Context, request: Request) -> Answer:
        names = sorted(directory(context).find(entity, request[member]).document["Inline"])
        return paged(request, "PolicyNames", names, str)

    def delete(context: Context, request: Request) -> Answer:
        with directory(context).change() as unit:
            found = unit.find(entity, request[member])
            inline = dict(found.document["Inline"])
            if inline.pop(request["PolicyName"], None) is None:
                raise _absent(entity, request)
            unit.edit(found, Inline=inline)
        return {}

    IAM.register(f"Put{title}Policy", put)
    IAM.register(f"Get{title}Policy", get)
    IAM.register(f"List{title}Policies", listing)
    IAM.register(f"Delete{title}Policy", delete)


def _absent(entity: Entity, request: Request) -> NotFound:
    return NotFound(f"The {entity.title.lower()} policy with name {request['PolicyName']} cannot be found.")


for _entity in (USER, GROUP, ROLE):
    _builds(_entity)

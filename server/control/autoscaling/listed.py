"""What the operations of automatic scaling have in common: the target that a request names, pages, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.control import paging
from server.control.operations import Context, Request
from server.errors import BadRequest, NotFound, Refusal
from server.metrics.tracking import COPIES, INSTANCES, PROVISIONED
from server.spec import NAME_PATTERN
from server.store.listing import Position
from server.store.scaling import TARGET, Key, belonging
from server.store.store import Resource

PAGE = 50
_NAME = NAME_PATTERN.strip("^$")
_VARIANT = re.compile(rf"endpoint/{_NAME}/variant/{_NAME}")
_RESOURCES = {INSTANCES: _VARIANT, PROVISIONED: _VARIANT, COPIES: re.compile(rf"inference-component/{_NAME}")}
"""What has a dimension."""


def key(request: Request) -> Key:
    """The target that a request names. Raises Refusal for one of a kind that is not scaled here."""
    found = Key.of(request)
    resource = _RESOURCES.get(found.dimension) if found.namespace == "sagemaker" else None
    if resource is None or not resource.fullmatch(found.resource_id):
        raise bad("Unsupported service namespace, resource type or scalable dimension", "ServiceNamespace")
    return found


def target(context: Context, found: Key) -> Resource:
    """The registered target. Raises Refusal in AWS's words."""
    try:
        return context.store.get(TARGET, found.row_name())
    except NotFound:
        raise missing("scalable target registered", found) from None


def missing(what: str, found: Key, *more: str) -> Refusal:
    """`ObjectNotFoundException`, naming what there is not and where."""
    where = (
        f"service namespace: {found.namespace}", f"resource ID: {found.resource_id}",
        f"scalable dimension: {found.dimension}", *more,
    )  # fmt: skip
    return Refusal("ObjectNotFoundException", f"No {what} for {', '.join(where)}")


def bad(message: str, field: str) -> Refusal:
    return Refusal("ValidationException", message, field=field)


def check_tags(given: Mapping[str, str]) -> None:
    for name in given:
        if name.lower().startswith("aws:"):
            raise bad(f"Tag key {name!r}: keys that begin with aws: are AWS's own.", "Tags")


def page(
    name: str, request: Request, found: Sequence[Resource], view: Callable[[Resource], Mapping[str, Any]], member: str
) -> dict[str, Any]:
    """At most MaxResults of `found`, which is in the order of ids, one way or the other."""
    size = request.get("MaxResults", PAGE)
    if not 1 <= size <= PAGE:
        raise bad(f"MaxResults must be between 1 and {PAGE}.", "MaxResults")
    filters = {k: v for k, v in request.items() if k not in ("MaxResults", "NextToken")}
    purpose = paging.purpose(name, filters)
    begin = 0
    if "NextToken" in request:
        last = _decoded(request["NextToken"], purpose)
        falling = len(found) > 1 and found[0].id > found[-1].id
        begin = next((n for n, each in enumerate(found) if (each.id < last if falling else each.id > last)), len(found))
    here = found[begin : begin + size]
    token = paging.encode(Position("", here[-1].id), purpose) if begin + size < len(found) else None
    return {member: [view(each) for each in here], "NextToken": token}


def _decoded(token: str, purpose: str) -> int:
    try:
        return paging.decode(token, purpose).id
    except BadRequest as error:
        raise Refusal("InvalidNextTokenException", error.message, field="NextToken") from None


def chosen(context: Context, kind: str, request: Request, names: str, member: str) -> list[Resource]:
    """Rows of a kind that a Describe asks for by `names` (of their `member`), ResourceId and ScalableDimension."""
    if "ScalableDimension" in request and "ResourceId" not in request:
        raise bad("A scalable dimension was specified without a resource ID.", "ResourceId")
    same = {each: request[each] for each in ("ServiceNamespace", "ResourceId", "ScalableDimension") if each in request}
    wanted = request.get(names)
    whole = len(same) == 3
    return [
        each
        for each in (belonging(context.store, kind, Key.of(request)) if whole else context.store.find(kind))
        if all(each.document[member] == value for member, value in same.items())
        and (not wanted or each.document[member] in wanted or each.arn in wanted)
    ]

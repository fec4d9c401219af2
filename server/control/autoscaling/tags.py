"""Tags of scalable targets."""

from __future__ import annotations

from server.control.autoscaling.listed import check_tags
from server.control.autoscaling.service import AUTOSCALING
from server.control.operations import Answer, Context, Request
from server.errors import LimitExceeded, NotFound, Refusal
from server.store import tags
from server.store.scaling import TARGET
from server.store.store import Resource


@AUTOSCALING.operation
def tag_resource(context: Context, request: Request) -> Answer:
    found = _tagged(context, request)
    check_tags(request["Tags"])
    try:
        tags.add(context.store, found, request["Tags"])
    except LimitExceeded as error:
        raise Refusal("TooManyTagsException", error.message) from None
    return {}


@AUTOSCALING.operation
def untag_resource(context: Context, request: Request) -> Answer:
    tags.remove(context.store, _tagged(context, request), request["TagKeys"])
    return {}


@AUTOSCALING.operation
def list_tags_for_resource(context: Context, request: Request) -> Answer:
    return {"Tags": tags.read(context.store, _tagged(context, request))}


def _tagged(context: Context, request: Request) -> Resource:
    arn = request["ResourceARN"]
    try:
        found = context.store.by_arn(arn)
    except NotFound:
        found = None
    if found is None or found.kind != TARGET:
        raise Refusal("ResourceNotFoundException", f"The specified resource doesn't exist: {arn}", field="ResourceARN")
    return found

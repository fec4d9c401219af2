"""Tags of every resource that has an ARN."""

from __future__ import annotations

import json

from server.control.kind import tag_map
from server.control.operations import Answer, Context, Request
from server.control.paging import decode, encode, purpose
from server.control.sagemaker import SAGEMAKER
from server.errors import NotFound
from server.store import tags
from server.store.listing import Position
from server.store.store import Resource

SIZE = 50


@SAGEMAKER.operation
def add_tags(context: Context, request: Request) -> Answer:
    """Adds or overwrites; answers all tags of the resource."""
    found = _tagged(context, request["ResourceArn"])
    return {"Tags": _wire(tags.add(context.store, found, tag_map(request["Tags"])))}


@SAGEMAKER.operation
def list_tags(context: Context, request: Request) -> Answer:
    found = tags.read(context.store, _tagged(context, request["ResourceArn"]))
    kept = purpose("ListTags", request["ResourceArn"])
    after = str(decode(request["NextToken"], kept).value) if "NextToken" in request else ""
    left = {key: value for key, value in found.items() if key > after}
    size = request.get("MaxResults", SIZE)
    page = dict(list(left.items())[:size])
    token = encode(Position(max(page), 0), kept) if len(left) > size else None
    return {"Tags": _wire(page), "NextToken": token}


@SAGEMAKER.operation
def delete_tags(context: Context, request: Request) -> Answer:
    tags.remove(context.store, _tagged(context, request["ResourceArn"]), request["TagKeys"])
    return {}


def _tagged(context: Context, arn: str) -> Resource:
    try:
        return context.store.by_arn(arn)
    except NotFound:
        raise NotFound(f"Could not find a resource with the ARN {json.dumps(arn)}.", field="resourceArn") from None


def _wire(found: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in found.items()]

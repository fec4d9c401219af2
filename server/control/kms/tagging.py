"""Tags of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.control.kms.lists import decoded, token
from server.control.kms.service import KMS, named, own
from server.control.operations import Answer, Context, Request
from server.errors import Refusal
from server.store import tags
from server.vault.keys import check_not_pending

PAGE = 50


@KMS.operation
def tag_resource(context: Context, request: Request) -> Answer:
    found = own(context, request)
    check_not_pending(found)
    tags.add(context.store, found, tags_of(request["Tags"]))
    return {}


@KMS.operation
def untag_resource(context: Context, request: Request) -> Answer:
    found = own(context, request)
    check_not_pending(found)
    tags.remove(context.store, found, request["TagKeys"])
    return {}


@KMS.operation
def list_resource_tags(context: Context, request: Request) -> Answer:
    found = named(context, request)
    after = decoded(request, "ListResourceTags", found.arn, "")
    left = [(key, value) for key, value in tags.read(context.store, found).items() if key > after]
    shown = left[: request.get("Limit", PAGE)]
    rest = len(left) > len(shown)
    return {
        "Tags": [{"TagKey": key, "TagValue": value} for key, value in shown],
        "Truncated": rest, "NextMarker": token(shown[-1][0], "ListResourceTags", found.arn) if rest else None,
    }  # fmt: skip


def tags_of(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Raises TagException."""
    found = {tag["TagKey"]: tag["TagValue"] for tag in given}
    if len(found) != len(given):
        raise Refusal("TagException", "A tag key occurs more than once.")
    if any(key.lower().startswith("aws:") for key in found):
        raise Refusal("TagException", "Tag keys cannot begin with aws:.")
    return found

"""ListKeys and ListAliases, in pages that stay put as keys come and go."""

from __future__ import annotations

from typing import Any

from server.control.kms.service import KMS, refuse_unbuilt
from server.control.operations import Answer, Context, Request
from server.control.paging import decode, encode, purpose
from server.errors import BadRequest, Refusal
from server.store.listing import Position, Query, page
from server.store.store import Resource
from server.vault.keys import ALIAS
from server.vault.vault import KEY

KEYS, ALIASES = 100, 50
"""On a page, where no Limit is said."""


@KMS.operation
def list_keys(context: Context, request: Request) -> Answer:
    refuse_unbuilt(request, "ResourceOwners")
    context.keys.destroy_due()
    found, rest = _page(context, request, Query(KEY, order="name"), "ListKeys", KEYS)
    return {"Keys": [{"KeyId": key.name, "KeyArn": key.arn} for key in found], **rest}


@KMS.operation
def list_aliases(context: Context, request: Request) -> Answer:
    context.keys.destroy_due()
    target = context.keys.resolve(request["KeyId"], aliases=False).name if "KeyId" in request else ""
    query = Query(ALIAS, facets={"TargetKeyId": target} if target else {}, order="name")
    found, rest = _page(context, request, query, f"ListAliases {target}", ALIASES)
    return {"Aliases": [_alias(alias) for alias in found], **rest}


def _alias(alias: Resource) -> dict[str, Any]:
    return {
        "AliasName": alias.name, "AliasArn": alias.arn, "TargetKeyId": alias.document["TargetKeyId"],
        "CreationDate": alias.created_at, "LastUpdatedDate": alias.modified_at,
    }  # fmt: skip


def _page(
    context: Context, request: Request, query: Query, name: str, usual: int
) -> tuple[tuple[Resource, ...], dict[str, Any]]:
    kept = purpose(name)
    position = _position(request["Marker"], kept) if "Marker" in request else None
    found = page(context.store, query, request.get("Limit", usual), position)
    marker = encode(found.next, kept) if found.next else None
    return found.resources, {"NextMarker": marker, "Truncated": marker is not None}


def token(place: str, *parts: str) -> str:
    return encode(Position(place, 0), purpose(*parts))


def decoded(request: Request, name: str, arn: str, start: str) -> str:
    """The place that a marker of `token` means; `start` without one. Raises InvalidMarkerException."""
    return str(_position(request["Marker"], purpose(name, arn)).value) if "Marker" in request else start


def _position(marker: str, kept: str) -> Position:
    try:
        return decode(marker, kept)
    except BadRequest:
        raise Refusal("InvalidMarkerException", "The marker is not valid: use the NextMarker of the previous page of "
                                                "the same request.") from None  # fmt: skip

"""Tags of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local.description import checked_tags
from server.objects.local.registry import Result, operation
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore


@operation("Bucket Key")
def get_object_tagging(store: LocalStore, params: Params, _body: Body | None) -> Result:
    tags = store.index.get(params["Bucket"], params["Key"]).details.tags
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


@operation("Bucket Key Tagging")
def put_object_tagging(store: LocalStore, params: Params, _body: Body | None) -> Result:
    if "Tagging" not in params:
        raise ObjectError("MissingRequestBodyError")
    _set_tags(store, params, checked_tags((tag["Key"], tag["Value"]) for tag in params["Tagging"]["TagSet"]))
    return {}


@operation("Bucket Key")
def delete_object_tagging(store: LocalStore, params: Params, _body: Body | None) -> Result:
    _set_tags(store, params, {})
    return {}


def _set_tags(store: LocalStore, params: Params, tags: Mapping[str, str]) -> None:
    with store.index.change():
        stored = store.index.get(params["Bucket"], params["Key"])
        store.index.put(replace(stored, details=replace(stored.details, tags=tags)))

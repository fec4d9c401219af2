"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local.conditions import check_write
from server.objects.local.registry import Result, operation
from server.objects.naming import check_key
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

MAX_KEYS = 1000


@operation("Bucket Key IfMatch")
def delete_object(store: LocalStore, params: Params, _body: Body | None) -> Result:
    bucket = params["Bucket"]
    with store.index.change():
        store.index.bucket(bucket)
        blobs = _drop(store, bucket, params["Key"], params)
    store.blobs.discard(blobs)
    return {}


@operation("Bucket Delete")
def delete_objects(store: LocalStore, params: Params, _body: Body | None) -> Result:
    asked = params.get("Delete", {}).get("Objects", [])
    if not 1 <= len(asked) <= MAX_KEYS:
        raise ObjectError("MalformedXML", f"The XML must name 1 to {MAX_KEYS} objects.")
    deleted: list[Result] = []
    errors: list[Result] = []
    blobs: list[str] = []
    with store.index.change():
        store.index.bucket(params["Bucket"])
        for one in asked:
            try:
                blobs += _drop_named(store, params["Bucket"], one)
                deleted.append({"Key": one["Key"]})
            except ObjectError as error:
                errors.append({"Key": one["Key"], "Code": error.code, "Message": error.message})
    store.blobs.discard(blobs)
    return {"Deleted": [] if params["Delete"].get("Quiet") else deleted, "Errors": errors}


def _drop_named(store: LocalStore, bucket: str, one: dict[str, Any]) -> list[str]:
    if one.get("VersionId", "null") != "null":
        raise ObjectError("NoSuchVersion", "The specified version does not exist.", status=404)
    if other := [name for name in ("LastModifiedTime", "Size") if name in one]:
        raise ObjectError("NotImplemented", f"Delete.Objects.{other[0]} is not implemented.")
    check_key(one["Key"])
    return _drop(store, bucket, one["Key"], {"IfMatch": one["ETag"]} if "ETag" in one else {})


def _drop(store: LocalStore, bucket: str, key: str, conditions: Params) -> list[str]:
    """Within a change: the key is gone; the blobs it had. Nothing there is no error."""
    present = store.index.find(bucket, key)
    check_write(conditions, key, present)
    if present is None:
        return []
    store.index.drop(bucket, key)
    return [piece.blob for piece in present.pieces]

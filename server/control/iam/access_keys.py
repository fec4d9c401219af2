"""Access keys of users and of the account's root."""

from __future__ import annotations

from typing import Any

from server.control.iam.service import IAM, directory, paged
from server.control.iam.users import called
from server.control.operations import Answer, Context, Request
from server.errors import LimitExceeded, NotFound, Refusal
from server.identity.directory import ACCESS_KEY, USER, Directory
from server.identity.keys import new_access_key
from server.store.store import Resource

MOST = 2
"""Access keys of one user."""


def owner(context: Context, unit: Directory, request: Request) -> tuple[str, str | None]:
    """Id and name of who has the keys: the user that is named, else the caller; the root has no name."""
    caller = context.principal
    if "UserName" not in request and caller.id == caller.account:
        return caller.account, None
    found = called(context, unit, request)
    return found.document["UserId"], found.document["UserName"]


@IAM.operation
def create_access_key(context: Context, request: Request) -> Answer:
    """The one answer that ever holds the secret."""
    owner(context, directory(context), request)
    made = new_access_key(context.account, context.secrets)
    with directory(context).change() as unit:
        id, name = owner(context, unit, request)
        if len(unit.owned(ACCESS_KEY, id)) >= MOST:
            raise LimitExceeded(f"Cannot exceed quota for AccessKeysPerUser: {MOST}")
        row = made.keep(unit, id)
    return {"AccessKey": {**_view(row, name), "SecretAccessKey": made.secret}}


@IAM.operation
def list_access_keys(context: Context, request: Request) -> Answer:
    unit = directory(context)
    id, name = owner(context, unit, request)
    shown = sorted((_view(row, name) for row in unit.owned(ACCESS_KEY, id)), key=lambda each: each["AccessKeyId"])
    return paged(request, "AccessKeyMetadata", shown, lambda each: each["AccessKeyId"])


@IAM.operation
def update_access_key(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        unit.set_status(_key(context, unit, request), request["Status"])
    return {}


@IAM.operation
def delete_access_key(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        unit.store.remove(_key(context, unit, request))
    return {}


@IAM.operation
def get_access_key_last_used(context: Context, request: Request) -> Answer:
    unit = directory(context)
    row = unit.key(ACCESS_KEY, request["AccessKeyId"])
    if row is None:
        raise Refusal("NoSuchEntity", f"The Access Key with id {request['AccessKeyId']} cannot be found.", status=404)
    user = unit.by_id(USER, row.document["Owner"])
    used = row.observation or {}
    return {
        "UserName": user.document["UserName"] if user else None,
        "AccessKeyLastUsed": {
            "LastUsedDate": used.get("At"), "ServiceName": used.get("Service", "N/A"),
            "Region": used.get("Region", "N/A"),
        },
    }  # fmt: skip


def _key(context: Context, unit: Directory, request: Request) -> Resource:
    id, _ = owner(context, unit, request)
    row = unit.key(ACCESS_KEY, request["AccessKeyId"])
    if row is None or row.document["Owner"] != id:
        raise NotFound(f"The Access Key with id {request['AccessKeyId']} cannot be found.", field="accessKeyId")
    return row


def _view(row: Resource, name: str | None) -> dict[str, Any]:
    return {"UserName": name, "AccessKeyId": row.name, "Status": row.status, "CreateDate": row.created_at}

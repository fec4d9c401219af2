"""API keys, which IAM calls service-specific credentials: what OpenAI clients send as `Authorization: Bearer`."""

from __future__ import annotations

import time
from typing import Any

from server.control.iam.service import IAM, directory
from server.control.iam.users import called
from server.control.operations import Answer, Context, Request
from server.errors import LimitExceeded, NotFound, Refusal
from server.identity.directory import API_KEY, USER, Directory
from server.identity.keys import add_api_key, digest, new_api_key
from server.store.store import Resource

SERVICE = "sagemaker.amazonaws.com"
MOST = 100
"""Of one user."""
_DAY_S = 86400


@IAM.operation
def create_service_specific_credential(context: Context, request: Request) -> Answer:
    """The one answer that ever holds the key, as ServiceCredentialSecret."""
    _check_service(request["ServiceName"])
    days = request.get("CredentialAgeDays")
    with directory(context).change() as unit:
        user = unit.find(USER, request["UserName"])
        if len(unit.owned(API_KEY, user.document["UserId"])) >= MOST:
            raise LimitExceeded(f"Cannot exceed quota for ServiceSpecificCredentialsPerUser: {MOST}")
        expires = None if days is None else time.time() + days * _DAY_S
        row, key = add_api_key(unit, user.document["UserId"], expires)
    return {"ServiceSpecificCredential": {**_view(row, user), "ServiceCredentialSecret": key}}


@IAM.operation
def list_service_specific_credentials(context: Context, request: Request) -> Answer:
    unit = directory(context)
    if "ServiceName" in request:
        _check_service(request["ServiceName"])
    user = called(context, unit, request)
    rows = unit.owned(API_KEY, user.document["UserId"])
    return {"ServiceSpecificCredentials": [_view(row, user) for row in rows], "IsTruncated": False}


@IAM.operation
def update_service_specific_credential(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        row, _ = _found(context, unit, request)
        unit.set_status(row, request["Status"])
    return {}


@IAM.operation
def reset_service_specific_credential(context: Context, request: Request) -> Answer:
    """Another key under the same id; the old one ends."""
    key = new_api_key(context.account)
    with directory(context).change() as unit:
        row, user = _found(context, unit, request)
        changed = unit.edit(row, Hash=digest(key))
    return {"ServiceSpecificCredential": {**_view(changed, user), "ServiceCredentialSecret": key}}


@IAM.operation
def delete_service_specific_credential(context: Context, request: Request) -> Answer:
    with directory(context).change() as unit:
        unit.store.remove(_found(context, unit, request)[0])
    return {}


def _check_service(name: str) -> None:
    if name != SERVICE:
        raise Refusal(
            "ServiceNotSupportedException", f"The service {name} is not supported; Hearth's keys are for {SERVICE}."
        )


def _found(context: Context, unit: Directory, request: Request) -> tuple[Resource, Resource]:
    user = called(context, unit, request)
    row = unit.key(API_KEY, request["ServiceSpecificCredentialId"])
    if row is None or row.document["Owner"] != user.document["UserId"]:
        raise NotFound(f"Service specific credential {request['ServiceSpecificCredentialId']} cannot be found.")
    return row, user


def _view(row: Resource, user: Resource) -> dict[str, Any]:
    expires = row.document["Expires"]
    ended = expires is not None and time.time() >= expires
    return {
        "UserName": user.document["UserName"], "ServiceName": SERVICE, "ServiceSpecificCredentialId": row.name,
        "Status": "Expired" if ended else row.status, "CreateDate": row.created_at, "ExpirationDate": expires,
        "ServiceCredentialAlias": row.name,
    }  # fmt: skip

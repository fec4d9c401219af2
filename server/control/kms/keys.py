"""Keys: made, described, switched on and off, deleted after a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.control.kms.policies import check_policy
from server.control.kms.service import ALGORITHM, KMS, metadata, named, own, refuse_unbuilt
from server.control.kms.tagging import tags_of
from server.control.operations import Answer, Context, Request
from server.errors import Refusal
from server.vault.keys import after, check_not_pending, moment

LONGEST_WINDOW, SHORTEST_WINDOW = 30, 7
"""Days before a key is destroyed; the longest is the usual."""


@KMS.operation
def create_key(context: Context, request: Request) -> Answer:
    refuse_unbuilt(request, "CustomKeyStoreId", "XksKeyId", "MultiRegion")
    wanted = {
        "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": ALGORITHM, "CustomerMasterKeySpec": ALGORITHM, "Origin": "AWS_KMS",
    }  # fmt: skip
    for name, only in wanted.items():
        if request.get(name, only) != only:
            raise Refusal("UnsupportedOperationException", f"Hearth's KMS has symmetric keys only: {name} must be "
                                                           f"{only}, not {request[name]}.")  # fmt: skip
    document = {"Description": request.get("Description", ""), "KeyManager": "CUSTOMER"}
    if "Policy" in request:
        check_policy(context, request, context.keys.arn("key/new"))
        document["Policy"] = request["Policy"]
    made = context.keys.create(document, tags=tags_of(request.get("Tags", [])))
    return {"KeyMetadata": metadata(context.keys, made)}


@KMS.operation
def describe_key(context: Context, request: Request) -> Answer:
    refuse_unbuilt(request, "GrantTokens")
    return {"KeyMetadata": metadata(context.keys, context.keys.resolve(request["KeyId"]))}


@KMS.operation
def update_key_description(context: Context, request: Request) -> Answer:
    found = own(context, request)
    check_not_pending(found)
    context.keys.change(found, _set(Description=request["Description"]))
    return {}


@KMS.operation
def enable_key(context: Context, request: Request) -> Answer:
    return _switch(context, request, "Enabled")


@KMS.operation
def disable_key(context: Context, request: Request) -> Answer:
    return _switch(context, request, "Disabled")


def _switch(context: Context, request: Request, status: str) -> Mapping[str, Any]:
    found = own(context, request)
    check_not_pending(found)
    context.keys.change(found, status=status)
    return {}


@KMS.operation
def schedule_key_deletion(context: Context, request: Request) -> Answer:
    found = own(context, request)
    check_not_pending(found)
    days = request.get("PendingWindowInDays", LONGEST_WINDOW)
    if not SHORTEST_WINDOW <= days <= LONGEST_WINDOW:
        raise Refusal("ValidationException", f"PendingWindowInDays must be from {SHORTEST_WINDOW} to {LONGEST_WINDOW}.",
                      field="pendingWindowInDays")  # fmt: skip
    end = after(context.keys.now(), days)
    context.keys.change(found, _set(DeletionDate=end), "PendingDeletion")
    return {
        "KeyId": found.arn, "DeletionDate": moment(end), "KeyState": "PendingDeletion", "PendingWindowInDays": days,
    }  # fmt: skip


@KMS.operation
def cancel_key_deletion(context: Context, request: Request) -> Answer:
    """The key is there again, and disabled."""
    found = named(context, request)
    if found.status != "PendingDeletion":
        raise Refusal("KMSInvalidStateException", f"{found.arn} is not pending deletion.")
    context.keys.change(found, lambda document: document.pop("DeletionDate", None), "Disabled")
    return {"KeyId": found.arn}


def _set(**values: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        document.update(values)

    return change

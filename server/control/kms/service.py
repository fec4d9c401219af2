"""KMS as botocore's service model has it, and what its operations share."""

from __future__ import annotations

import hashlib
from typing import Any

from server.control.operations import Context, Request
from server.control.service import Service
from server.errors import Forbidden, Refusal
from server.store.store import Resource
from server.vault.keys import Keys, moment

KMS = Service("kms")
ALGORITHM = "SYMMETRIC_DEFAULT"


def named(context: Context, request: Request) -> Resource:
    """The key of a request that takes no alias."""
    return context.keys.resolve(request["KeyId"], aliases=False)


def own(context: Context, request: Request) -> Resource:
    """The same, and the caller may change it: it is no service's."""
    found = named(context, request)
    check_own(found)
    return found


def check_own(found: Resource) -> None:
    if found.document.get("KeyManager") == "AWS":
        raise Forbidden(f"{found.arn} is an AWS managed key; it cannot be changed.")


def refuse_unbuilt(request: Request, *names: str) -> None:
    """UnsupportedOperationException for parameters that would otherwise be dropped."""
    if other := [name for name in names if request.get(name)]:
        raise Refusal("UnsupportedOperationException", f"Hearth's KMS has no {other[0]}.")


def check_dry_run(request: Request) -> None:
    """To be called where everything but the work itself is done."""
    if request.get("DryRun"):
        raise Refusal("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.",
                      status=412)  # fmt: skip


def material(id: str) -> str:
    """A backing key's id as KMS has it: 64 hexadecimal digits."""
    return hashlib.sha256(bytes.fromhex(id)).hexdigest()


def metadata(keys: Keys, found: Resource) -> dict[str, Any]:
    """KeyMetadata."""
    document = found.document
    manager = document.get("KeyManager", "CUSTOMER")
    shown: dict[str, Any] = {
        "AWSAccountId": keys.store.account, "KeyId": found.name, "Arn": found.arn, "CreationDate": found.created_at,
        "Enabled": found.status == "Enabled", "Description": document.get("Description", ""),
        "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": found.status, "Origin": "AWS_KMS", "KeyManager": manager,
        "CustomerMasterKeySpec": ALGORITHM, "KeySpec": ALGORITHM, "EncryptionAlgorithms": [ALGORITHM],
        "MultiRegion": False, "CurrentKeyMaterialId": material(document["Backing"][-1]["Id"]),
    }  # fmt: skip
    if found.status == "PendingDeletion":
        shown["DeletionDate"] = moment(document["DeletionDate"])
    return shown

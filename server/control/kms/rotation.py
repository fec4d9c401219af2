"""New backing keys: every so many days, or at once. What the old ones encrypted still opens."""

from __future__ import annotations

from typing import Any

from server.control.kms.lists import decoded, token
from server.control.kms.service import KMS, material, named, own
from server.control.operations import Answer, Context, Request
from server.errors import Refusal
from server.store.store import Resource
from server.vault.keys import after, check_enabled, check_not_pending, moment

PERIOD_DAYS = 365
MOST_ON_DEMAND = 25
"""Rotations on demand of one key, as KMS has it."""


@KMS.operation
def enable_key_rotation(context: Context, request: Request) -> Answer:
    found = _changeable(context, request)
    days = request.get("RotationPeriodInDays", found.document.get("RotationPeriod", PERIOD_DAYS))

    def change(document: dict[str, Any]) -> None:
        if document.get("RotationPeriod") != days:
            document.update(RotationPeriod=days, NextRotation=after(context.keys.now(), days))

    context.keys.change(found, change)
    return {}


@KMS.operation
def disable_key_rotation(context: Context, request: Request) -> Answer:
    def change(document: dict[str, Any]) -> None:
        document.pop("RotationPeriod", None)
        document.pop("NextRotation", None)

    context.keys.change(_changeable(context, request), change)
    return {}


@KMS.operation
def get_key_rotation_status(context: Context, request: Request) -> Answer:
    found = named(context, request)
    check_not_pending(found)
    days = found.document.get("RotationPeriod")
    shown: dict[str, Any] = {"KeyId": found.arn, "KeyRotationEnabled": days is not None}
    if days is not None:
        shown.update(RotationPeriodInDays=days, NextRotationDate=moment(found.document["NextRotation"]))
    return shown


@KMS.operation
def rotate_key_on_demand(context: Context, request: Request) -> Answer:
    found = _changeable(context, request)
    if sum(entry["Origin"] == "ON_DEMAND" for entry in found.document["Backing"]) >= MOST_ON_DEMAND:
        raise Refusal("LimitExceededException", f"{found.arn} was rotated on demand {MOST_ON_DEMAND} times already.")
    context.keys.rotate(found, "ON_DEMAND")
    return {"KeyId": found.arn}


@KMS.operation
def list_key_rotations(context: Context, request: Request) -> Answer:
    """With `IncludeKeyMaterial` ALL_KEY_MATERIAL, the key's first backing key too."""
    found = named(context, request)
    check_not_pending(found)
    entries = found.document["Backing"]
    shown = entries if request.get("IncludeKeyMaterial") == "ALL_KEY_MATERIAL" else entries[1:]
    after_, limit = int(decoded(request, "ListKeyRotations", found.arn, "0")), request.get("Limit", 100)
    page = [_rotation(found, entry, entry is entries[-1]) for entry in shown[after_ : after_ + limit]]
    rest = after_ + limit < len(shown)
    return {
        "Rotations": page, "Truncated": rest,
        "NextMarker": token(str(after_ + limit), "ListKeyRotations", found.arn) if rest else None,
    }  # fmt: skip


def _rotation(found: Resource, entry: dict[str, Any], current: bool) -> dict[str, Any]:
    shown = {
        "KeyId": found.arn, "KeyMaterialId": material(entry["Id"]),
        "KeyMaterialState": "CURRENT" if current else "NON_CURRENT",
    }  # fmt: skip
    if entry["Origin"] == "CREATE":
        return shown
    return {**shown, "RotationDate": moment(entry["Created"]), "RotationType": entry["Origin"]}


def _changeable(context: Context, request: Request) -> Resource:
    found = own(context, request)
    check_enabled(found)
    return found

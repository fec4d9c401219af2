"""CloudTrail's userIdentity of a principal, and the user name that events are looked up by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Caller(Protocol):
    """What the log needs to know of who called (`server.identity.principal.Principal` has it)."""

    @property
    def account(self) -> str: ...
    @property
    def arn(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def session(self) -> bool: ...


def user_identity(caller: Caller | None, account: str, access_key: str = "") -> dict[str, Any]:
    """`caller` as CloudTrail has it; None: somebody who could not be identified, but named `access_key`."""
    key = {"accessKeyId": access_key[:128]} if access_key else {}
    if caller is None:
        return {"type": "Unknown", "principalId": "", "accountId": account, **key}
    kind, _, path = caller.arn.rpartition(":")[2].partition("/")
    found: dict[str, Any] = {
        "type": _TYPES.get(kind, "Unknown"), "principalId": caller.id, "arn": caller.arn, "accountId": caller.account,
        **key,
    }  # fmt: skip
    if caller.access_key:
        found["accessKeyId"] = caller.access_key
    name = path.rpartition("/")[2]
    if kind == "user":
        found["userName"] = name
    if kind == "assumed-role":
        role = path.partition("/")[0]
        found["sessionContext"] = {
            "sessionIssuer": {
                "type": "Role", "principalId": caller.id.partition(":")[0],
                "arn": f"arn:aws:iam::{caller.account}:role/{role}", "accountId": caller.account, "userName": role,
            },
            "attributes": {"mfaAuthenticated": "false"},
        }  # fmt: skip
    elif caller.session:
        found["sessionContext"] = {"attributes": {"mfaAuthenticated": "false"}}
    return found


_TYPES = {"root": "Root", "user": "IAMUser", "assumed-role": "AssumedRole", "federated-user": "FederatedUser",
          "role": "Role"}  # fmt: skip


def user_name(identity: Mapping[str, Any]) -> str:
    """What LookupEvents calls Username: the user's name, the session's name, or root."""
    if identity.get("type") == "Root":
        return "root"
    if "userName" in identity:
        return str(identity["userName"])
    return str(identity.get("arn", "")).rpartition("/")[2] or str(identity.get("invokedBy", ""))

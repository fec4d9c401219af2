"""Who sends a request: an account's root, a user, or a session of a role."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """`id` is what STS calls UserId: the account's number, AIDA..., or AROA...:SESSION."""

    account: str
    arn: str
    id: str
    access_key: str = ""
    session: bool = False


def root(account: str) -> Principal:
    """The account itself; every caller's principal where nobody is asked who they are."""
    return Principal(account, root_arn(account), account)


def root_arn(account: str) -> str:
    return f"arn:aws:iam::{account}:root"

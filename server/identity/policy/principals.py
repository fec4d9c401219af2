"""The Principal of a resource's or a role's policy, and how closely it names whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

from server.identity.policy.malformed import MalformedPolicy

KINDS = ("AWS", "Service", "Federated", "CanonicalUser")


class Named(IntEnum):
    """How a policy names a principal; the higher, the more the naming alone grants within its account."""

    NOT = 0
    ACCOUNT = 1
    """Its account, which hands the decision to that account's own policies."""
    ROLE = 2
    """The role of its session: bounded as the session is."""
    ITSELF = 3
    """The user or session itself, or everyone: no identity policy is needed."""


@dataclass(frozen=True, slots=True)
class Who:
    """A principal's ARN read: `arn` and those that it stands under."""

    arn: str
    account: str
    role: str
    """The name of the role whose session this is."""

    @property
    def root(self) -> str:
        return f"arn:aws:iam::{self.account}:root"


@lru_cache(maxsize=4096)
def who(arn: str) -> Who:
    """A service is its host name, such as sagemaker.amazonaws.com."""
    parts = arn.split(":", 5)
    if len(parts) != 6:
        return Who(arn, "", "")
    role = parts[5].split("/")[1] if parts[2] == "sts" and parts[5].startswith("assumed-role/") else ""
    return Who(arn, parts[4], role)


@dataclass(frozen=True, slots=True)
class Principals:
    values: frozenset[str]
    everyone: bool
    roles: frozenset[tuple[str, str]]
    """Account and name (which is one in its account, whatever its path) of each role."""

    def names(self, asking: Who) -> Named:
        if self.everyone or asking.arn in self.values:
            return Named.ITSELF
        if asking.role and (asking.account, asking.role) in self.roles:
            return Named.ROLE
        if asking.account and (asking.account in self.values or asking.root in self.values):
            return Named.ITSELF if asking.arn == asking.root else Named.ACCOUNT
        return Named.NOT

    def spares(self, asking: Who) -> bool:
        """Whether a Deny with these as NotPrincipal passes by: they name the principal, its role and its account."""
        if self.everyone:
            return True
        if asking.account and not (asking.account in self.values or asking.root in self.values):
            return False
        if asking.role and (asking.account, asking.role) not in self.roles:
            return False
        return asking.arn == asking.root or asking.arn in self.values


def read_principals(given: Any) -> Principals:
    """Raises MalformedPolicy, naming a principal that is none."""
    if given == "*":
        return Principals(frozenset(), True, frozenset())
    if not isinstance(given, dict) or not given or not given.keys() <= set(KINDS):
        raise MalformedPolicy
    values: set[str] = set()
    everyone = False
    for kind, listed in given.items():
        for value in listed if isinstance(listed, list) else [listed]:
            if not isinstance(value, str):
                raise MalformedPolicy
            if kind == "AWS" and value == "*":
                everyone = True
            elif not _possible(kind, value):
                raise MalformedPolicy(f'Invalid principal in policy: "{kind}":"{value}"')
            values.add(value)
    roles = frozenset(_role(value) for value in values if ":role/" in value)
    return Principals(frozenset(values), everyone, roles)


def _possible(kind: str, value: str) -> bool:
    if not value or "*" in value or "?" in value:
        return False
    if kind == "Service":
        return "." in value and "/" not in value and ":" not in value
    if kind != "AWS":
        return True
    if value.isascii() and value.isalnum():
        return not value.isdigit() or len(value) == 12
    parts = value.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] not in ("iam", "sts") or parts[3]:
        return False
    return len(parts[4]) == 12 and parts[4].isdigit() and bool(parts[5])


def _role(arn: str) -> tuple[str, str]:
    return arn.split(":")[4], arn.rpartition("/")[2]

"""A principal, and what it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.identity.policy.policy import Policy
from server.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Caller(Principal):
    """`holder` is the id of the user or role whose policies these are, or the account for its root."""

    holder: str = ""
    name: str = ""
    """Of a user; none for the root and for a role's session."""
    policies: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session_policies: tuple[Policy, ...] | None = None
    """None: the session has all that its holder has."""
    tags: Mapping[str, str] = field(default_factory=dict)
    issued_at: float | None = None
    """When a temporary session began, in seconds since 1970."""
    version: int = 0
    """Of the snapshot that says all this."""
    bearer: bool = False
    """Known by SageMaker's bearer token, which needs a permission of its own."""

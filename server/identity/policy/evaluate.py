"""The decision: may this principal do this to that?

AWS's order, within one account: an explicit deny in any policy ends it; a resource's policy that names the very user or
session (or everyone) allows by itself; else the identity's policies (or a resource's policy that names the session's
role) must allow, and the permissions boundary and the session policies, where there are any, must allow too. From
another account both sides must allow. What nobody allowed is denied.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from server.identity.policy.patterns import Values
from server.identity.policy.policy import Policy, Statement
from server.identity.policy.principals import Named, Who, who

Outcome = Literal["allowed", "explicitDeny", "implicitDeny"]
Side = Literal["identity", "resource", "boundary", "session"]


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked. `account` owns the resource; keys of `context` may come in any case."""

    principal_arn: str
    account: str
    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", {key.lower(): given for key, given in self.context.items()})


@dataclass(frozen=True, slots=True)
class Matched:
    """A statement that had a say."""

    policy: Policy
    side: Side
    index: int
    sid: str


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    matched: tuple[Matched, ...] = ()
    side: Side | None = None
    """Whose policy denied, or whose allowed not."""
    boundary_allows: bool | None = None
    """None: there is no boundary, or the decision fell before it."""
    contextual: bool = False
    """Whether the request's context was asked."""

    @property
    def allowed(self) -> bool:
        return self.outcome == "allowed"


def evaluate(
    access: Access,
    identity_policies: Sequence[Policy],
    *,
    session_policies: Sequence[Policy] | None = None,
    boundary: Policy | None = None,
    resource_policies: Sequence[Policy] = (),
    resource_must_allow: bool = False,
) -> Decision:
    """`resource_must_allow`: a role's trust policy and a key's policy are never enough for an identity to bypass."""
    asking = who(access.principal_arn)
    look = _Look(access, asking)
    for policy in identity_policies:
        look.deny(policy, "identity")
    for policy in resource_policies:
        look.deny(policy, "resource")
    if boundary is not None:
        look.deny(boundary, "boundary")
    for policy in session_policies or ():
        look.deny(policy, "session")
    if look.matched:
        return Decision("explicitDeny", tuple(look.matched), look.matched[0].side, contextual=look.contextual)

    at_home = asking.account in (access.account, "")
    named = max((look.allow(policy, "resource") for policy in resource_policies), default=Named.NOT)
    if at_home and named is Named.ITSELF:
        return look.decided("allowed", None)
    if named is Named.NOT and (resource_must_allow or not at_home):
        return look.decided("implicitDeny", "resource")

    granted = asking.arn == asking.root or (at_home and named is Named.ROLE)
    for policy in identity_policies:
        granted = look.allow(policy, "identity") > 0 or granted
    bounded = None
    if boundary is not None:
        bounded = look.allow(boundary, "boundary") > 0
    in_session = session_policies is None
    for policy in session_policies or ():
        in_session = look.allow(policy, "session") > 0 or in_session
    side: Side | None = None
    if not granted:
        side = "identity"
    elif bounded is False:
        side = "boundary"
    elif not in_session:
        side = "session"
    return look.decided("allowed" if side is None else "implicitDeny", side, bounded)


class _Look:
    """One request on its way through the policies."""

    __slots__ = ("_access", "_action", "_asking", "contextual", "matched")

    def __init__(self, access: Access, asking: Who) -> None:
        self._access = access
        self._action = access.action.lower()
        self._asking = asking
        self.matched: list[Matched] = []
        self.contextual = False

    def deny(self, policy: Policy, side: Side) -> None:
        """Notes the statements that deny."""
        for statement in policy.covering(self._action)[0]:
            if statement.names(self._asking) and self._applies(statement):
                self.matched.append(Matched(policy, side, statement.index, statement.sid))

    def allow(self, policy: Policy, side: Side) -> Named:
        """Notes the statements that allow; how closely they name the principal."""
        closest = Named.NOT
        for statement in policy.covering(self._action)[1]:
            named = statement.names(self._asking)
            if named and self._applies(statement):
                self.matched.append(Matched(policy, side, statement.index, statement.sid))
                closest = max(closest, named)
        return closest

    def decided(self, outcome: Outcome, side: Side | None, bounded: bool | None = None) -> Decision:
        return Decision(outcome, tuple(self.matched), side, bounded, self.contextual)

    def _applies(self, statement: Statement) -> bool:
        self.contextual = self.contextual or statement.contextual
        return statement.applies(self._access.resource, self._values)

    @property
    def _values(self) -> Values:
        return self._access.context


class Decisions:
    """Decisions kept: only those in which no statement that covers the action asked the context."""

    def __init__(self, most: int = 8192) -> None:
        self._most = most
        self._kept: dict[tuple[Hashable, str, str, str, str], Decision] = {}

    def known(
        self, version: Hashable, principal_arn: str, account: str, action: str, resource: str
    ) -> Decision | None:
        """One that was kept: it needs no context."""
        return self._kept.get((version, principal_arn, account, action, resource))

    def decide(
        self,
        version: Hashable,
        access: Access,
        identity_policies: Sequence[Policy],
        *,
        session_policies: Sequence[Policy] | None = None,
        boundary: Policy | None = None,
        resource_policies: Sequence[Policy] = (),
        resource_must_allow: bool = False,
    ) -> Decision:
        """As `evaluate`; `version` changes whenever any of the policies does."""
        key = (version, access.principal_arn, access.account, access.action, access.resource)
        found = self.known(*key)
        if found is None:
            found = evaluate(
                access, identity_policies, session_policies=session_policies, boundary=boundary,
                resource_policies=resource_policies, resource_must_allow=resource_must_allow,
            )  # fmt: skip
            if not found.contextual:
                if len(self._kept) >= self._most:
                    self._kept.clear()
                self._kept[key] = found
        return found

"""May this caller do this? The decision of all policies that bind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from server.errors import Forbidden
from server.identity.caller import Caller
from server.identity.policy.evaluate import Access, Decisions
from server.identity.policy.policy import Policy
from server.identity.policy.refusals import refusal

Facts = Callable[[], Mapping[str, tuple[str, ...]]]
"""The request's context; called only where a policy has a say about it."""


Attached = Callable[[str], Policy | None]
"""The policy that a resource has of its own and that must allow whatever is done to it; by the resource's ARN."""


def _nothing(_arn: str) -> None:
    return None


class Judge:
    """Remembers decisions that no condition has a say in. One for a process. `attached`: policies of resources."""

    def __init__(self, attached: Attached = _nothing) -> None:
        self._decisions = Decisions()
        self._attached = attached

    def check(self, caller: Caller, account: str, action: str, resource: str, facts: Facts) -> None:
        """`account` owns the resource. Raises Forbidden."""
        # Sessions of one name may be bound differently.
        # What another account has must not be told from what nobody has: an operation refuses both alike.
        attached = self._attached(resource) if resource.split(":")[4:5] == [account] else None
        version = (caller.version, caller.access_key if caller.session else "", attached and attached.text)
        known = self._decisions.known(version, caller.arn, account, action, resource)
        if known is not None and known.allowed:
            return
        access = Access(caller.arn, account, action, resource, facts())
        decision = self._decisions.decide(
            version, access, caller.policies, session_policies=caller.session_policies, boundary=caller.boundary,
            resource_policies=() if attached is None else (attached,), resource_must_allow=attached is not None,
        )  # fmt: skip
        if not decision.allowed:
            raise Forbidden(refusal(access, decision))


def policies_of(caller: Caller) -> tuple[Policy, ...]:
    """All that have a say."""
    bounds = () if caller.boundary is None else (caller.boundary,)
    return (*caller.policies, *bounds, *(caller.session_policies or ()))

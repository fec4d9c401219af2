"""The policies of KMS keys: what a caller may do with a key its policy decides first, as on AWS."""

from __future__ import annotations

from sqlalchemy import Engine

from server.errors import Forbidden, NotFound
from server.identity.policy.document import Use
from server.identity.policy.malformed import MalformedPolicy
from server.identity.policy.policy import Policy, compile_policy
from server.store.store import Store

_OF_KEYS = "arn:aws:kms:"


class KeyPolicies:
    """`Attached` of a judge: the policies of all accounts' keys, as they are in the database now."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, arn: str) -> Policy | None:
        """None for what is no key, or none that is there: the operation itself says so. Raises Forbidden for a policy
        that cannot be read."""
        parts = arn.split(":", 5)
        if not arn.startswith(_OF_KEYS) or len(parts) != 6:
            return None
        try:
            key = Store(self._engine, account=parts[4], region=parts[3]).within(parts[3]).by_arn(arn)
        except NotFound:
            return None
        text = key.document.get("Policy")
        try:
            return None if text is None else key_policy(str(text))
        except MalformedPolicy as error:
            raise Forbidden(f"The policy of {arn} cannot be read: {error.message}") from None


def key_policy(text: str) -> Policy:
    """Raises MalformedPolicy."""
    return compile_policy(text, id="default", use=Use.RESOURCE)

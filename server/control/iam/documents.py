"""Policy documents of requests: read in full before anything is kept, so that what is kept can be decided by."""

from __future__ import annotations

from server.errors import LimitExceeded, Refusal
from server.identity.policy.document import Use
from server.identity.policy.malformed import MalformedPolicy, PolicyTooLarge
from server.identity.policy.policy import compile_policy


def checked(text: str, use: Use) -> str:
    """`text`. Raises MalformedPolicyDocument, and LimitExceeded for too many characters."""
    try:
        compile_policy(text, use=use)
    except PolicyTooLarge as error:
        raise LimitExceeded(error.message) from None
    except MalformedPolicy as error:
        raise Refusal("MalformedPolicyDocumentException", error.message) from None
    return text

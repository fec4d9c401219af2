"""What is wrong with a policy document, in AWS's words."""

from __future__ import annotations

SYNTAX = "Syntax errors in policy."
LEGACY = "The policy failed legacy parsing"


class MalformedPolicy(Exception):
    """IAM answers it as MalformedPolicyDocument, 400; S3 and KMS under their own codes."""

    def __init__(self, message: str = SYNTAX) -> None:
        super().__init__(message)
        self.message = message


class PolicyTooLarge(MalformedPolicy):
    """IAM answers it as LimitExceeded, 409. `limit` is in characters that are no white space."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"Cannot exceed quota for PolicySize: {limit}")
        self.limit = limit

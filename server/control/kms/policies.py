"""The one policy of a key, called `default`."""

from __future__ import annotations

import json

from server.control.kms.service import KMS, named, own
from server.control.operations import Answer, Context, Request
from server.errors import Refusal

NAME = "default"


@KMS.operation
def get_key_policy(context: Context, request: Request) -> Answer:
    found = named(context, request)
    _check_name(request)
    return {"Policy": found.document["Policy"], "PolicyName": NAME}


@KMS.operation
def put_key_policy(context: Context, request: Request) -> Answer:
    found = own(context, request)
    _check_name(request)
    check_policy(request["Policy"])
    context.keys.change(found, lambda document: document.update(Policy=request["Policy"]))
    return {}


@KMS.operation
def list_key_policies(context: Context, request: Request) -> Answer:
    named(context, request)
    return {"PolicyNames": [NAME], "Truncated": False}


def check_policy(text: str) -> None:
    """Raises MalformedPolicyDocumentException for what is no policy document."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    statements = document.get("Statement") if isinstance(document, dict) else None
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not statements or not all(map(_is_statement, statements)):
        raise Refusal("MalformedPolicyDocumentException", "The policy must be a JSON object whose Statement holds "
                      "objects with Effect, Principal, Action and Resource.")  # fmt: skip


def _is_statement(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.get("Effect") in ("Allow", "Deny")
        and all(name in value or f"Not{name}" in value for name in ("Principal", "Action", "Resource"))
    )


def _check_name(request: Request) -> None:
    if request.get("PolicyName", NAME) != NAME:
        raise Refusal("NotFoundException", "No such policy exists: a key's policy is called default.")

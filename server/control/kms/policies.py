"""The one policy of a key, called `default`."""

from __future__ import annotations

from server.control.kms.service import KMS, named, own
from server.control.operations import Answer, Context, Request
from server.errors import Refusal
from server.identity.caller import Caller
from server.identity.key_policies import key_policy
from server.identity.policy import context as conditions
from server.identity.policy.evaluate import Access, evaluate
from server.identity.policy.malformed import MalformedPolicy

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
    check_policy(context, request, found.arn)
    context.keys.change(found, lambda document: document.update(Policy=request["Policy"]))
    return {}


@KMS.operation
def list_key_policies(context: Context, request: Request) -> Answer:
    named(context, request)
    return {"PolicyNames": [NAME], "Truncated": False}


def check_policy(context: Context, request: Request, key: str) -> None:
    """Raises MalformedPolicyDocumentException for what is no policy document, and for one under which the caller could
    never change it again, unless that is asked for."""
    try:
        policy = key_policy(request["Policy"])
    except MalformedPolicy as error:
        raise Refusal("MalformedPolicyDocumentException", error.message) from None
    caller = context.caller
    if request.get("BypassPolicyLockoutSafetyCheck") or not isinstance(caller, Caller):
        return
    access = Access(caller.arn, context.account, "kms:PutKeyPolicy", key, conditions.of_principal(caller))
    if not evaluate(access, caller.policies, resource_policies=(policy,), resource_must_allow=True).allowed:
        raise Refusal("MalformedPolicyDocumentException", "The new key policy will not allow you to update the key "
                                                          "policy in the future.")  # fmt: skip


def _check_name(request: Request) -> None:
    if request.get("PolicyName", NAME) != NAME:
        raise Refusal("NotFoundException", "No such policy exists: a key's policy is called default.")

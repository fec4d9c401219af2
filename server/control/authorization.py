"""Asked by the dispatcher before an operation runs: may its caller do this to that?"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from server.control.dispatch import Call
from server.control.operations import Context
from server.errors import NotFound
from server.identity.caller import Caller
from server.identity.directory import GROUP, POLICY, ROLE, USER, Directory
from server.identity.judge import Judge, policies_of
from server.identity.policy import context as conditions
from server.identity.policy.actions import Ask, asks
from server.identity.policy.scope import Scope
from server.store import tags
from server.vault.keys import ALIAS

ANYONE = frozenset((("sts", "GetCallerIdentity"), ("sts", "GetSessionToken"), ("sts", "AssumeRole")))
"""What every caller may ask; a role's trust policy decides about assuming it (`server.control.sts`)."""

_ENTITIES = {entity.title.lower(): entity for entity in (USER, GROUP, ROLE, POLICY)}


class Authorizer:
    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def __call__(self, call: Call) -> None:
        """Raises Forbidden. Nobody is refused where nobody is asked who they are."""
        caller = call.context.caller
        if not isinstance(caller, Caller) or (call.service.name, call.operation) in ANYONE:
            return
        context = call.context
        scope = Scope(context.account, context.region, caller.arn, lambda kind, name: _arn(context, kind, name))
        operation = call.service.describe(call.operation)
        for ask in asks(call.service.signing_name, operation, call.request, scope):
            for resource in ask.resources:
                facts = partial(_facts, caller, call, operation, ask, resource)
                self._judge.check(caller, context.account, ask.action, resource, facts)


def _facts(caller: Caller, call: Call, operation: Any, ask: Ask, resource: str) -> dict[str, tuple[str, ...]]:
    return {**_said(caller, call, operation), **_of_resource(caller, call, resource), **ask.context}


def _said(caller: Caller, call: Call, operation: Any) -> dict[str, tuple[str, ...]]:
    client = call.context.client
    found = {
        **conditions.of_principal(caller, tags=caller.tags),
        **conditions.of_request(
            source_ip=client.address, secure=client.secure, region=call.context.region, user_agent=client.user_agent
        ),
        **conditions.of_request_tags(_given_tags(call.request), call.request.get("TagKeys", ())),
    }
    if call.service.name == "sagemaker" and _mention(caller, "sagemaker:"):
        found |= conditions.of_sagemaker(operation, call.request)
    return found


def _of_resource(caller: Caller, call: Call, resource: str) -> Mapping[str, tuple[str, ...]]:
    """The resource's account and, where a policy asks for them, its tags."""
    context, found = call.context, {}
    if _mention(caller, "resourcetag/") and resource.startswith("arn:"):
        store = Directory(context.store).store if ":iam::" in resource else context.store
        with contextlib.suppress(NotFound):
            found = tags.read(store, store.by_arn(resource))
    service = call.service.name if call.service.name in ("sagemaker", "iam") else ""
    return conditions.of_resource(context.account, found, service)


def _mention(caller: Caller, part: str) -> bool:
    """Whether any policy names a condition key with `part` in it."""
    return any(part in key.lower() for policy in policies_of(caller) for key in policy.keys)


def _given_tags(request: Mapping[str, Any]) -> dict[str, str]:
    given = request.get("Tags")
    pairs = [each for each in given if isinstance(each, Mapping) and "Key" in each] if isinstance(given, list) else []
    return {str(each["Key"]): str(each.get("Value", "")) for each in pairs}


def _arn(context: Context, kind: str, name: str) -> str | None:
    """A name's ARN where the name alone does not make it: IAM's paths, KMS's aliases."""
    if entity := _ENTITIES.get(kind):
        try:
            return Directory(context.store).find(entity, name).arn
        except NotFound:
            return None
    if kind == "key" and name.startswith("alias/"):
        try:
            target = context.store.get(ALIAS, name).document["TargetKeyId"]
        except NotFound:
            return None
        return f"arn:aws:kms:{context.region}:{context.account}:key/{target}"
    return None

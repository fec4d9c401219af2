"""Aliases: names of keys that can be moved to others."""

from __future__ import annotations

import re

from server.control.kms.service import KMS, check_own
from server.control.operations import Answer, Context, Request
from server.errors import BadRequest, Conflict, NotFound, Refusal
from server.store.store import Resource
from server.vault.keys import ALIAS, MANAGED, check_not_pending


@KMS.operation
def create_alias(context: Context, request: Request) -> Answer:
    alias = _name(request)
    target = _target(context, request)
    try:
        context.keys.add_alias(alias, target)
    except Conflict:
        raise Refusal("AlreadyExistsException",
                      f"An alias with the name {context.keys.arn(alias)} already exists") from None  # fmt: skip
    return {}


@KMS.operation
def update_alias(context: Context, request: Request) -> Answer:
    found = _alias(context, request)
    target = {"TargetKeyId": _target(context, request).name}
    context.store.replace(found, target, found.status, facets=target)
    return {}


@KMS.operation
def delete_alias(context: Context, request: Request) -> Answer:
    context.store.remove(_alias(context, request))
    return {}


def _alias(context: Context, request: Request) -> Resource:
    alias = _name(request)
    try:
        return context.store.get(ALIAS, alias)
    except NotFound:
        raise Refusal("NotFoundException", f"Alias {context.keys.arn(alias)} is not found.") from None


def _name(request: Request) -> str:
    alias = str(request["AliasName"])
    if not alias.startswith("alias/"):
        raise BadRequest('Alias must start with the prefix "alias/".', field="aliasName")
    if alias.startswith(MANAGED):
        raise Refusal("NotAuthorizedException", f"{MANAGED} begins the names of AWS managed keys; it is not yours.")
    if not re.fullmatch(r"alias/[a-zA-Z0-9/_-]+", alias):
        raise Refusal("InvalidAliasNameException", f"{alias} contains invalid characters for an alias")
    return alias


def _target(context: Context, request: Request) -> Resource:
    target = context.keys.resolve(request["TargetKeyId"], aliases=False)
    check_own(target)
    check_not_pending(target)
    return target

"""STS: who am I, and temporary sessions."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from server.control.operations import Answer, Context, Request
from server.control.service import Service
from server.errors import BadRequest, Forbidden, Refusal
from server.identity import names, sessions
from server.identity.caller import Caller
from server.identity.directory import POLICY, ROLE, Directory
from server.identity.policy import context as conditions
from server.identity.policy.document import Use
from server.identity.policy.evaluate import Access, evaluate
from server.identity.policy.malformed import MalformedPolicy
from server.identity.policy.policy import compile_policy
from server.identity.sessions import Session, Sessions
from server.identity.snapshot import managed
from server.store.store import Resource

STS = Service("sts")

ASSUMED_S, CHAINED_S = 3600, 3600
"""How long a session lasts when no duration is given, and may last at most when it comes from another role's."""
TOKEN_S, ROOT_TOKEN_S = 12 * 3600, 3600
"""GetSessionToken's default, and its most for the root."""
MOST_POLICIES = 10


@STS.operation
def get_caller_identity(context: Context, _request: Request) -> Answer:
    principal = context.principal
    return {"Arn": principal.arn, "UserId": principal.id, "Account": principal.account}


@STS.operation
def get_access_key_info(context: Context, request: Request) -> Answer:
    account = names.account_of(request["AccessKeyId"])
    if account is None:
        raise BadRequest(f"{request['AccessKeyId']} is not the id of an access key.", field="accessKeyId")
    return {"Account": account}


@STS.operation
def assume_role(context: Context, request: Request) -> Answer:
    """The role's trust policy decides, and the caller's own policies where it trusts the whole account, or is of
    another one."""
    _refuse_unbuilt(request, "SerialNumber", "TokenCode", "SourceIdentity", "ProvidedContexts", "TransitiveTagKeys")
    unit, role = _role(context, request["RoleArn"])
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
    _check_trust(context, unit.account, role, request, tags)
    assert role is not None
    lasts = _duration(context, role, request)
    policies = _session_policies(unit, request)
    session_name, document = request["RoleSessionName"], role.document
    path = f"{document['RoleName']}/{session_name}"
    session = _session(
        unit.account, arn=f"arn:aws:sts::{unit.account}:assumed-role/{path}", id=f"{document['RoleId']}:{session_name}",
        holder=document["RoleId"], lasts=lasts, policies=policies, tags=tags,
    )  # fmt: skip
    answer: dict[str, Any] = {
        "Credentials": _credentials(context, session),
        "AssumedRoleUser": {"AssumedRoleId": session.id, "Arn": session.arn},
    }
    if policies is not None or tags:
        packed = sum(map(len, policies or ())) + sum(len(key) + len(value) for key, value in tags.items())
        answer["PackedPolicySize"] = min(100, math.ceil(100 * packed / (Use.SESSION.limit * (MOST_POLICIES + 1))))
    return answer


@STS.operation
def get_session_token(context: Context, request: Request) -> Answer:
    _refuse_unbuilt(request, "SerialNumber", "TokenCode")
    principal = context.principal
    if principal.session:
        raise Forbidden("Cannot call GetSessionToken with session credentials")
    is_root = principal.id == principal.account
    asked = request.get("DurationSeconds", TOKEN_S)
    lasts = min(asked, ROOT_TOKEN_S) if is_root else asked
    session = _session(
        context.account, arn=principal.arn, id=principal.id, holder=principal.id, lasts=lasts, policies=None, tags={}
    )
    return {"Credentials": _credentials(context, session)}


def _refuse_unbuilt(request: Request, *members: str) -> None:
    """For what would change who may do what, and is not here."""
    for member in members:
        if request.get(member):
            raise BadRequest(f"Hearth's STS has no {member}.", field=member)


def _role(context: Context, arn: str) -> tuple[Directory, Resource | None]:
    """A role and its account's identities; another account's only where callers are asked who they are."""
    account = arn.split(":", 5)[4] if arn.count(":") >= 5 else ""
    if account != context.account and (context.caller is None or account not in context.accounts.active()):
        return Directory(context.store), None
    unit = Directory(context.store.of(account))
    return unit, unit.by_arn(ROLE, arn)


def _check_trust(
    context: Context, account: str, role: Resource | None, request: Request, tags: Mapping[str, str]
) -> None:
    """Raises Forbidden, and the same for a role that is not there."""
    caller = context.caller
    if caller is not None and caller.id == caller.account:
        raise Forbidden("Roles may not be assumed by root accounts.")
    if role is None:
        raise _not_authorized(context, "sts:AssumeRole", request["RoleArn"])
    if caller is None:  # nobody is asked who they are
        return
    assert isinstance(caller, Caller)
    facts = {
        **conditions.of_principal(caller, tags=caller.tags),
        **conditions.of_request(
            source_ip=context.client.address, secure=context.client.secure, region=context.region,
            user_agent=context.client.user_agent,
        ),
        **conditions.of_request_tags(tags),
        "sts:rolesessionname": (request["RoleSessionName"],),
    }  # fmt: skip
    if "ExternalId" in request:
        facts["sts:externalid"] = (request["ExternalId"],)
    trust = compile_policy(role.document["AssumeRolePolicyDocument"], id=role.arn, use=Use.TRUST)
    for action in ("sts:AssumeRole", *(("sts:TagSession",) if tags else ())):
        asked = Access(caller.arn, account, action, role.arn, facts)
        if not evaluate(
            asked, caller.policies, session_policies=caller.session_policies, boundary=caller.boundary,
            resource_policies=(trust,), resource_must_allow=True,
        ).allowed:  # fmt: skip
            raise _not_authorized(context, action, role.arn)


def _not_authorized(context: Context, action: str, arn: str) -> Forbidden:
    return Forbidden(f"User: {context.principal.arn} is not authorized to perform: {action} on resource: {arn}")


def _duration(context: Context, role: Resource, request: Request) -> int:
    lasts: int = request.get("DurationSeconds", ASSUMED_S)
    if lasts > role.document["MaxSessionDuration"]:
        raise BadRequest("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    if lasts > CHAINED_S and context.principal.session:
        raise BadRequest("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role "
                         "chaining")  # fmt: skip
    return lasts


def _session_policies(unit: Directory, request: Request) -> tuple[str, ...] | None:
    """The documents that bound the session; None where none was given."""
    arns = [each["arn"] for each in request.get("PolicyArns", ())]
    if len(arns) > MOST_POLICIES:
        raise BadRequest(f"A session takes at most {MOST_POLICIES} PolicyArns.", field="policyArns")
    if "Policy" not in request and not arns:
        return None
    own = {row.arn: row for row in unit.all(POLICY)}
    try:
        found = [managed(arn, own).text for arn in arns]
    except KeyError as missing:
        raise BadRequest(f"Policy {missing.args[0]} does not exist.", field="policyArns") from None
    if "Policy" in request:
        try:
            compile_policy(request["Policy"], use=Use.SESSION)
        except MalformedPolicy as error:
            raise Refusal("MalformedPolicyDocumentException", error.message) from None
        found.append(request["Policy"])
    return tuple(found)


def _session(
    account: str, *, arn: str, id: str, holder: str, lasts: int, policies: tuple[str, ...] | None,
    tags: Mapping[str, str],
) -> Session:  # fmt: skip
    now = time.time()
    return Session(
        names.access_key_id(names.SESSION_KEY, account), names.secret_access_key(), account,
        arn, id, holder, now, math.floor(now) + lasts, policies, dict(tags),
    )  # fmt: skip


def _credentials(context: Context, session: Session) -> dict[str, Any]:
    key = sessions.key(context.store.engine, context.secrets)
    return {
        "AccessKeyId": session.access_key, "SecretAccessKey": session.secret,
        "SessionToken": Sessions(key).token(session), "Expiration": session.expires_at,
    }  # fmt: skip

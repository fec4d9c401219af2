"""AWS Organizations, as far as accounts are made, listed and closed: for the account that manages the others.

To all others there is no organization: what they are told does not depend on which accounts there are.
"""

from __future__ import annotations

import uuid
from typing import Any

from server.control import paging
from server.control.operations import Answer, Context, Request
from server.control.service import Service
from server.errors import Conflict, NotFound, Refusal
from server.identity.accounts import ACTIVE, MANAGER_ROLE, Accounts
from server.store import tags
from server.store.listing import Position
from server.store.store import Resource, Store
from server.vault.vault import SYSTEM

ORGANIZATIONS = Service("organizations")

REQUEST = "AccountRequest"
"""Rows of requests that made no account; one that did is noted in the account's own row."""
PAGE = 20
EMAIL_TAKEN = "EMAIL_ALREADY_EXISTS"


@ORGANIZATIONS.operation
def describe_organization(context: Context, _request: Request) -> Answer:
    accounts = _managed(context)
    arn = f"arn:aws:organizations::{accounts.own}:organization/{accounts.organization}"
    return {"Organization": {
        "Id": accounts.organization, "Arn": arn, "FeatureSet": "CONSOLIDATED_BILLING",
        "MasterAccountId": accounts.own, "MasterAccountArn": accounts.arn(accounts.own), "AvailablePolicyTypes": [],
    }}  # fmt: skip


@ORGANIZATIONS.operation
def create_account(context: Context, request: Request) -> Answer:
    """Makes the account at once, with a role that the managing account may assume."""
    accounts = _managed(context)
    id = f"car-{uuid.uuid4().hex}"
    given = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
    try:
        made = accounts.create(
            accounts.unused(), request["AccountName"], request["Email"], request=id, tags=given,
            role=request.get("RoleName", MANAGER_ROLE),
        )  # fmt: skip
    except Conflict:
        document = {"Name": request["AccountName"], "FailureReason": EMAIL_TAKEN}
        refused = _rows(context).create(REQUEST, id, document, "FAILED", arn=f"arn:hearth:organizations:::{id}")
        return {"CreateAccountStatus": _failed(refused)}
    return {"CreateAccountStatus": _succeeded(made)}


@ORGANIZATIONS.operation
def describe_create_account_status(context: Context, request: Request) -> Answer:
    id = request["CreateAccountRequestId"]
    found = next((each for each in _statuses(context) if each["Id"] == id), None)
    if found is None:
        raise Refusal("CreateAccountStatusNotFoundException", f"There is no request {id} to create an account.")
    return {"CreateAccountStatus": found}


@ORGANIZATIONS.operation
def list_create_account_status(context: Context, request: Request) -> Answer:
    wanted = request.get("States")
    found = [each for each in _statuses(context) if wanted is None or each["State"] in wanted]
    return _paged("CreateAccountStatuses", found, request)


@ORGANIZATIONS.operation
def list_accounts(context: Context, request: Request) -> Answer:
    accounts = _managed(context)
    return _paged("Accounts", [_own(accounts), *map(_account, accounts.all())], request)


@ORGANIZATIONS.operation
def describe_account(context: Context, request: Request) -> Answer:
    accounts = _managed(context)
    own = request["AccountId"] == accounts.own
    return {"Account": _own(accounts) if own else _account(_found(accounts, request))}


@ORGANIZATIONS.operation
def close_account(context: Context, request: Request) -> Answer:
    accounts = _managed(context)
    if request["AccountId"] == accounts.own:
        raise Refusal("ConstraintViolationException", "You cannot close the management account.")
    found = _found(accounts, request)
    try:
        accounts.close(found.name)
    except Conflict:
        raise Refusal("AccountAlreadyClosedException", "The provided account is already closed.") from None
    return {}


@ORGANIZATIONS.operation
def list_tags_for_resource(context: Context, request: Request) -> Answer:
    """Of an account."""
    accounts = _managed(context)
    found = _found(accounts, {"AccountId": request["ResourceId"]})
    pairs = tags.read(_rows(context), found)
    return {"Tags": [{"Key": key, "Value": value} for key, value in pairs.items()]}


def _managed(context: Context) -> Accounts:
    """Raises Refusal for all but the account that manages the others."""
    accounts = context.accounts
    if context.account != accounts.own:
        raise Refusal("AWSOrganizationsNotInUseException", "Your account is not a member of an organization.")
    return accounts


def _found(accounts: Accounts, request: Request) -> Resource:
    try:
        return accounts.get(request["AccountId"])
    except NotFound:
        raise Refusal("AccountNotFoundException", "You specified an account that doesn't exist.") from None


def _rows(context: Context) -> Store:
    return context.store.of(SYSTEM).within(SYSTEM)


def _own(accounts: Accounts) -> dict[str, Any]:
    return {
        "Id": accounts.own, "Arn": accounts.arn(accounts.own), "Name": "management", "Status": ACTIVE,
        "State": ACTIVE, "JoinedMethod": "INVITED",
    }  # fmt: skip


def _account(row: Resource) -> dict[str, Any]:
    return {
        "Id": row.name, "Arn": row.arn, "Name": row.document["Name"], "Email": row.document["Email"] or None,
        "Status": row.status, "State": "ACTIVE" if row.status == ACTIVE else "CLOSED", "JoinedMethod": "CREATED",
        "JoinedTimestamp": row.created_at,
    }  # fmt: skip


def _statuses(context: Context) -> list[dict[str, Any]]:
    made = [_succeeded(row) for row in _managed(context).all() if row.document["Request"]]
    failed = [_failed(row) for row in _rows(context).find(REQUEST)]
    return sorted([*made, *failed], key=lambda each: (each["RequestedTimestamp"], each["Id"]))


def _succeeded(row: Resource) -> dict[str, Any]:
    return {
        "Id": row.document["Request"], "AccountName": row.document["Name"], "State": "SUCCEEDED",
        "AccountId": row.name, "RequestedTimestamp": row.created_at, "CompletedTimestamp": row.created_at,
    }  # fmt: skip


def _failed(row: Resource) -> dict[str, Any]:
    return {
        "Id": row.name, "AccountName": row.document["Name"], "State": "FAILED",
        "FailureReason": row.document["FailureReason"], "RequestedTimestamp": row.created_at,
        "CompletedTimestamp": row.created_at,
    }  # fmt: skip


def _paged(member: str, found: list[dict[str, Any]], request: Request) -> Answer:
    purpose = paging.purpose(f"List{member}", request.get("States"))
    begin = paging.decode(request["NextToken"], purpose).id if "NextToken" in request else 0
    end = begin + request.get("MaxResults", PAGE)
    token = paging.encode(Position("", end), purpose) if end < len(found) else None
    return {member: found[begin:end], "NextToken": token}

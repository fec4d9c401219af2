"""Service Quotas: what accounts may have, and requests for more.

What the root of the operator's account asks for it has at once. What others ask for waits for `hearth quotas`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.control import paging
from server.control.operations import Answer, Context, Request
from server.control.service import Service
from server.errors import BadRequest, Refusal
from server.store import quotas
from server.store.listing import Position
from server.store.quotas import QUOTAS, Increase, Quota

SERVICE_QUOTAS = Service("service-quotas")
PAGE = 100
TITLES: Mapping[str, str] = {
    "sagemaker": "Amazon SageMaker",
    "s3": "Amazon Simple Storage Service (Amazon S3)",
}
"""Names of the services that have quotas, by their codes."""


@SERVICE_QUOTAS.operation
def list_services(_context: Context, request: Request) -> Answer:
    listed = [{"ServiceCode": code, "ServiceName": title} for code, title in TITLES.items()]
    return _paged("ListServices", request, "Services", listed)


@SERVICE_QUOTAS.operation
def list_service_quotas(context: Context, request: Request) -> Answer:
    found = [_shown(context, quota, quotas.value(context.store, context.quotas, quota)) for quota in _of(request)]
    return _paged("ListServiceQuotas", request, "Quotas", found)


@SERVICE_QUOTAS.operation
def get_service_quota(context: Context, request: Request) -> Answer:
    quota = _named(request)
    return {"Quota": _shown(context, quota, quotas.value(context.store, context.quotas, quota))}


@SERVICE_QUOTAS.operation
def list_aws_default_service_quotas(context: Context, request: Request) -> Answer:
    found = [_shown(context, quota, context.quotas.value(quota), "") for quota in _of(request)]
    return _paged("ListAWSDefaultServiceQuotas", request, "Quotas", found)


@SERVICE_QUOTAS.operation
def get_aws_default_service_quota(context: Context, request: Request) -> Answer:
    quota = _named(request)
    return {"Quota": _shown(context, quota, context.quotas.value(quota), "")}


@SERVICE_QUOTAS.operation
def request_service_quota_increase(context: Context, request: Request) -> Answer:
    quota, desired = _named(request), request["DesiredValue"]
    if desired <= quotas.value(context.store, context.quotas, quota):
        raise Refusal(
            "IllegalArgumentException", "You must provide a quota value greater than the current quota value."
        )
    if quotas.requests(context.store, code=quota.code, status=quotas.PENDING):
        raise Refusal(
            "ResourceAlreadyExistsException", "Only one open service quota increase request is allowed per quota."
        )
    caller = context.principal
    at_once = caller.id == caller.account == context.quotas.operator
    made = quotas.ask(context.store, quota, desired, caller.arn, at_once=at_once)
    return {"RequestedQuota": _requested(context, made)}


@SERVICE_QUOTAS.operation
def get_requested_service_quota_change(context: Context, request: Request) -> Answer:
    for each in quotas.requests(context.store):
        if each.id == request["RequestId"]:
            return {"RequestedQuota": _requested(context, each)}
    raise Refusal("NoSuchResourceException", "The request failed because the specified request does not exist.")


@SERVICE_QUOTAS.operation
def list_requested_service_quota_change_history(context: Context, request: Request) -> Answer:
    return _history("ListRequestedServiceQuotaChangeHistory", context, request)


@SERVICE_QUOTAS.operation
def list_requested_service_quota_change_history_by_quota(context: Context, request: Request) -> Answer:
    return _history("ListRequestedServiceQuotaChangeHistoryByQuota", context, request, _named(request).code)


def _history(name: str, context: Context, request: Request, code: str | None = None) -> Answer:
    if "ServiceCode" in request:
        _of(request)
    level = request.get("QuotaRequestedAtLevel", "ACCOUNT")
    found = [
        _requested(context, each)
        for each in quotas.requests(context.store, code=code, status=request.get("Status"))
        if request.get("ServiceCode") in (None, QUOTAS[each.code].service) and level != "RESOURCE"
    ]
    return _paged(name, request, "RequestedQuotas", found)


def _of(request: Request) -> list[Quota]:
    """The service's quotas. Raises NoSuchResourceException."""
    if request["ServiceCode"] not in TITLES:
        raise Refusal("NoSuchResourceException", "The request failed because the specified service does not exist.")
    return [
        quota
        for quota in QUOTAS.values()
        if quota.service == request["ServiceCode"] and request.get("QuotaCode") in (None, quota.code)
    ]


def _named(request: Request) -> Quota:
    found = _of(request)
    if not found:
        raise Refusal(
            "NoSuchResourceException", "The request failed because the specified service quota does not exist."
        )
    return found[0]


def _arn(context: Context, quota: Quota, account: str) -> str:
    return f"arn:aws:servicequotas:{context.region}:{account}:{quota.service}/{quota.code}"


def _shown(context: Context, quota: Quota, value: float, account: str | None = None) -> dict[str, Any]:
    return {
        "ServiceCode": quota.service, "ServiceName": TITLES[quota.service], "QuotaCode": quota.code,
        "QuotaArn": _arn(context, quota, context.account if account is None else account), "QuotaName": quota.name,
        "Value": value, "Unit": quota.unit, "Adjustable": True, "GlobalQuota": True, "QuotaAppliedAtLevel": "ACCOUNT",
        "Period": None if quota.period is None else {"PeriodValue": 1, "PeriodUnit": quota.period},
        "Description": f"{quota.words} of one account in all regions. {quotas.UNLIMITED:.0f} stands for no limit.",
    }  # fmt: skip


def _requested(context: Context, each: Increase) -> dict[str, Any]:
    quota = QUOTAS[each.code]
    return {
        "Id": each.id, "ServiceCode": quota.service, "ServiceName": TITLES[quota.service], "QuotaCode": quota.code,
        "QuotaName": quota.name, "DesiredValue": each.desired, "Status": each.status, "Created": each.created_at,
        "LastUpdated": each.updated_at, "Requester": each.requester, "GlobalQuota": True, "Unit": quota.unit,
        "QuotaArn": _arn(context, quota, each.account), "QuotaRequestedAtLevel": "ACCOUNT",
    }  # fmt: skip


def _paged(name: str, request: Request, member: str, found: Sequence[Mapping[str, Any]]) -> Answer:
    filters = {key: value for key, value in request.items() if key not in ("MaxResults", "NextToken")}
    purpose = paging.purpose(name, filters)
    begin, size = 0, request.get("MaxResults", PAGE)
    if "NextToken" in request:
        try:
            begin = paging.decode(request["NextToken"], purpose).id
        except BadRequest as error:
            raise Refusal("InvalidPaginationTokenException", error.message) from None
    token = paging.encode(Position("", begin + size), purpose) if begin + size < len(found) else None
    return {member: found[begin : begin + size], "NextToken": token}

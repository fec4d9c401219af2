"""CloudTrail, as far as a log is looked up: LookupEvents over the audit log, of one account and region."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from server.audit.lookup import Found, Position, Wanted, newest
from server.audit.rows import name_of
from server.control import paging
from server.control.operations import Answer, Context, Request
from server.control.service import Service
from server.errors import BadRequest, Refusal
from server.store import listing

CLOUDTRAIL = Service("cloudtrail")

PAGE = 50
"""CloudTrail's default and most."""
WINDOW = timedelta(days=90)
"""How far back events can be looked up."""


@CLOUDTRAIL.operation
def lookup_events(context: Context, request: Request) -> Answer:
    if "EventCategory" in request:  # insights, which nothing here makes
        return {"Events": []}
    wanted = _wanted(context, request)
    purpose = paging.purpose(
        "LookupEvents", context.account, context.region, wanted.attributes, request.get("StartTime"),
        request.get("EndTime"),
    )  # fmt: skip
    after = _position(request["NextToken"], purpose) if "NextToken" in request else None
    found, following = newest(context.store.engine, wanted, request.get("MaxResults", PAGE), after)
    token = None
    if following is not None:
        token = paging.encode(listing.Position(str(following[0]), following[1]), purpose)
    return {"Events": [_event(each) for each in found], "NextToken": token}


def _wanted(context: Context, request: Request) -> Wanted:
    given = request.get("LookupAttributes", [])
    if len(given) > 1:
        raise Refusal("InvalidLookupAttributesException", "You can specify only one lookup attribute.")
    attributes = {each["AttributeKey"]: each["AttributeValue"] for each in given}
    if attributes.get("ReadOnly", "true").lower() not in ("true", "false"):
        raise Refusal("InvalidLookupAttributesException", "The value of ReadOnly must be true or false.")
    earliest = int((datetime.now(UTC) - WINDOW).timestamp())
    since, until = request.get("StartTime"), request.get("EndTime")
    if since is not None and until is not None and since > until:
        raise Refusal("InvalidTimeRangeException", "The start time is after the end time.")
    return Wanted(
        account=context.account,
        region=context.region,
        attributes=attributes,
        since=max(earliest, -int(-since // 1)) if since is not None else earliest,
        until=None if until is None else int(until // 1),
    )


def _position(token: str, purpose: str) -> Position:
    try:
        found = paging.decode(token, purpose)
        return int(str(found.value)), found.id
    except (BadRequest, ValueError):
        raise Refusal(
            "InvalidNextTokenException",
            "Invalid NextToken: use the one that the previous page of the same request returned.",
        ) from None


def _event(found: Found) -> dict[str, Any]:
    event = found.event
    return {
        "EventId": event["eventID"],
        "EventName": event["eventName"],
        "ReadOnly": "true" if event["readOnly"] else "false",
        "AccessKeyId": event["userIdentity"].get("accessKeyId"),
        "EventTime": float(found.time),
        "EventSource": event["eventSource"],
        "Username": found.username or None,
        "Resources": [
            {"ResourceType": each["type"], "ResourceName": name_of(each["ARN"])} for each in event["resources"]
        ],
        "CloudTrailEvent": found.text,
    }

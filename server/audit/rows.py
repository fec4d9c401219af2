"""An event as the store's rows: the columns that it is looked up by, read from the event itself."""

from __future__ import annotations

from typing import Any

from server.audit.caller import user_name
from server.audit.event import Record, canonical, seconds

MAX_RESOURCES = 20


def event_row(record: Record) -> dict[str, Any]:
    """All columns of `AuditEventRow` but `seq` and `digest`."""
    identity = record["userIdentity"]
    return {
        "account": record["recipientAccountId"],
        "region": record["awsRegion"][:32],
        "management": record["managementEvent"],
        "time": seconds(record["eventTime"]),
        "event_id": record["eventID"],
        "name": record["eventName"][:128],
        "source": record["eventSource"][:128],
        "username": user_name(identity)[:128],
        "access_key": str(identity.get("accessKeyId", ""))[:128],
        "read_only": record["readOnly"],
        "event": canonical(record),
    }


def resource_rows(record: Record) -> list[dict[str, Any]]:
    """All columns of `AuditResourceRow` but `seq`. Data calls are not looked up, so they have none."""
    if not record["managementEvent"]:
        return []
    return [
        {
            "number": number,
            "account": record["recipientAccountId"],
            "region": record["awsRegion"][:32],
            "time": seconds(record["eventTime"]),
            "name": name_of(each["ARN"])[:255],
            "arn": each["ARN"][:512],
            "type": each["type"][:64],
        }
        for number, each in enumerate(record["resources"][:MAX_RESOURCES])
    ]


def name_of(arn: str) -> str:
    """The name in an ARN: what follows its resource type; a path before a name stays away."""
    own = arn.split(":", 5)[-1]
    if arn.startswith("arn:aws:s3:::"):
        return own
    separator = "/" if "/" in own else ":"
    return own.rpartition(separator)[2] if arn.startswith("arn:aws:iam:") else own.partition(separator)[2] or own

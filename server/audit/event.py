"""One call as an event in CloudTrail's record shape.

Source: "CloudTrail record contents for management, data, and network activity events", event version 1.11.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from server.audit.caller import Caller, user_identity
from server.audit.redaction import cut

VERSION = "1.11"
MAX_BYTES = 256 * 1024
"""CloudTrail's own bound of an event."""
Category = Literal["Management", "Data"]


@dataclass(frozen=True, slots=True)
class Named:
    """A resource that a call touched."""

    arn: str
    type: str
    """As CloudFormation calls it, such as AWS::SageMaker::Endpoint."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a call that ended. `parameters` and `answer` are redacted already."""

    source: str
    """Such as sagemaker.amazonaws.com."""
    name: str
    account: str
    region: str
    read_only: bool
    caller: Caller | None = None
    """None: nobody could be identified."""
    access_key: str = ""
    """The key that the call names, proved or not; a caller's own goes first."""
    address: str = ""
    user_agent: str = ""
    request_id: str = ""
    parameters: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None
    error_code: str | None = None
    error_message: str | None = None
    resources: Sequence[Named] = ()
    category: Category = "Management"
    extra: Mapping[str, Any] | None = None
    """`additionalEventData`: status, bytes, duration."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


Record = dict[str, Any]


def record(call: Call) -> Record:
    """The event; it has an id of its own and is at most MAX_BYTES of JSON."""
    found: Record = {
        "eventVersion": VERSION,
        "userIdentity": user_identity(call.caller, call.account, call.access_key),
        "eventTime": moment(call.at),
        "eventSource": call.source,
        "eventName": call.name,
        "awsRegion": call.region,
        "sourceIPAddress": cut(call.address, 128) or "hearth.internal",
        "userAgent": cut(call.user_agent, 1024),
        "requestParameters": dict(call.parameters) if call.parameters else None,
        "responseElements": dict(call.answer) if call.answer else None,
        "requestID": call.request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": call.read_only,
        "resources": [
            {"accountId": call.account, "type": each.type, "ARN": each.arn} for each in call.resources
        ],
        "eventType": "AwsApiCall",
        "managementEvent": call.category == "Management",
        "recipientAccountId": call.account,
        "eventCategory": call.category,
    }  # fmt: skip
    if call.error_code is not None:
        found["errorCode"] = call.error_code
        found["errorMessage"] = cut(call.error_message or "", 2048)
    if call.extra:
        found["additionalEventData"] = dict(call.extra)
    return bounded(found)


def service_record(account: str, region: str, name: str, details: Mapping[str, Any]) -> Record:
    """An event that Hearth itself writes into the log, such as what retention removed."""
    call = Call("cloudtrail.amazonaws.com", name, account, region, read_only=False)
    return {
        **record(call), "userIdentity": {"type": "AWSService", "invokedBy": "hearth.internal"},
        "eventType": "AwsServiceEvent", "serviceEventDetails": dict(details),
    }  # fmt: skip


def bounded(found: Record) -> Record:
    """Without its largest parts if it is larger than MAX_BYTES; they say so, as CloudTrail's do."""
    for name in ("responseElements", "requestParameters", "resources"):
        if (size := len(canonical(found))) <= MAX_BYTES:
            return found
        found[name] = [] if name == "resources" else None
        found["addendum"] = {"reason": "EVENT_TOO_LARGE", "updatedFields": name, "originalSize": size}
    return found


def canonical(document: Mapping[str, Any]) -> str:
    """The one JSON text of a document, in ASCII: what is kept and what is hashed."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=64)
def seconds(text: str) -> int:
    """Seconds since 1970 of an eventTime. Raises ValueError for what is none."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())

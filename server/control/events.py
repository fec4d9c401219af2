"""Changes of resources as the events that SageMaker sends to EventBridge.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from server.control.kind import Kind
from server.control.projection import answer
from server.control.resources import endpoint, endpoint_config, model, model_package
from server.control.sagemaker import SAGEMAKER
from server.store.outbox import Event
from server.store.store import Resource

SOURCE = "aws.sagemaker"
NOT_SENT = ("CreatedBy", "LastModifiedBy", "LastDeploymentConfig")
"""What Describe tells and no event does."""


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind is told of: times as they stand in its `detail`."""

    kind: Kind
    time: Callable[[datetime], str | int] = milliseconds


FORMS: Mapping[str, Form] = {
    form.kind.name: form
    for form in (
        Form(model.KIND),
        Form(endpoint_config.KIND),
        Form(endpoint.KIND),
        Form(model_package.KIND, iso),
    )
}


def rendered(event: Event) -> dict[str, Any]:
    """The event as EventBridge delivers it. `detail` is what Describe answers, with the tags, and an endpoint's status
    in capitals."""
    form = FORMS[event.kind]
    shape = SAGEMAKER.output(f"Describe{event.kind}")
    told = dict(form.kind.view(_resource(event)))
    times = {name: form.time(moment) for name, moment in told.items() if isinstance(moment, datetime)}
    detail = {**answer(shape, told), **{name: time for name, time in times.items() if name in shape.members}}
    if event.kind == "Endpoint":
        detail["EndpointStatus"] = _capitals(event.status)
    return {
        "version": "0",
        "id": event.uuid,
        "detail-type": f"SageMaker {_words(event.kind)} State Change",
        "source": SOURCE,
        "account": event.account,
        "time": iso(event.at),
        "region": event.region,
        "resources": [event.arn],
        "detail": {**{name: value for name, value in detail.items() if name not in NOT_SENT}, "Tags": event.tags},
    }


def _resource(event: Event) -> Resource:
    return Resource(
        kind=event.kind, name=event.name, arn=event.arn, document=event.document, generation=0, observed=0,
        status=event.status, reason=event.reason, created_at=event.created_at, modified_at=event.modified_at,
        region=event.region,
    )  # fmt: skip


def _words(kind: str) -> str:
    """`ModelPackage` as `Model Package`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind)


def _capitals(status: str) -> str:
    """`InService` as `IN_SERVICE`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", status).upper()

"""What automatic scaling did, and why; or why it did nothing."""

from __future__ import annotations

from typing import Any

from server.control.autoscaling.listed import chosen, page
from server.control.autoscaling.service import AUTOSCALING
from server.control.operations import Answer, Context, Request
from server.store.scaling import ACTIVITY
from server.store.store import Resource


@AUTOSCALING.operation
def describe_scaling_activities(context: Context, request: Request) -> Answer:
    """The newest first, of the last six weeks."""
    every = request.get("IncludeNotScaledActivities", False)
    found = [
        each
        for each in chosen(context, ACTIVITY, request, "none", "ActivityId")
        if every or "NotScaledReasons" not in each.document
    ]
    found.sort(key=lambda each: each.id, reverse=True)
    return page("DescribeScalingActivities", request, found, _view, "ScalingActivities")


def _view(each: Resource) -> dict[str, Any]:
    return {**each.document, "StatusCode": each.status}

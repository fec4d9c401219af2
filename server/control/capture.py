"""SageMaker's DataCaptureConfig: what is refused of it, what it becomes, and how an endpoint shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.control.endpoints import SERVING
from server.errors import BadRequest
from server.spec import Capture

Document = Mapping[str, Any]

BOTH = "InputAndOutput"


def check(config: Document | None) -> None:
    """Raises BadRequest for a destination that no object can have."""
    if config is not None and not _is_place(config["DestinationS3Uri"]):
        raise BadRequest(
            f"DataCaptureConfig.DestinationS3Uri must be s3://BUCKET/PREFIX, got {config['DestinationS3Uri']!r}.",
            field="destinationS3Uri",
        )


def _is_place(address: str) -> bool:
    return address.startswith("s3://") and bool(address.removeprefix("s3://").partition("/")[0])


def spec(config: Document | None) -> Capture | None:
    """What `config`, which passed `check`, asks for."""
    if config is None:
        return None
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    types = config.get("CaptureContentTypeHeader", {})
    return Capture(
        enabled=config.get("EnableCapture", True),
        sampling_percentage=config["InitialSamplingPercentage"],
        destination=config["DestinationS3Uri"],
        kms_key=config.get("KmsKeyId", ""),
        input=bool(modes & {"Input", BOTH}),
        output=bool(modes & {"Output", BOTH}),
        csv_types=tuple(each.lower() for each in types.get("CsvContentTypes", ())),
        json_types=tuple(each.lower() for each in types.get("JsonContentTypes", ())),
    )


def summary(capture: Document | None, status: str) -> dict[str, Any] | None:
    """DataCaptureConfigSummary of an endpoint in `status`, whose document has `capture`."""
    if capture is None:
        return None
    return {
        "EnableCapture": capture["enabled"],
        "CaptureStatus": "Started" if capture["enabled"] and status in SERVING else "Stopped",
        "CurrentSamplingPercentage": capture["sampling_percentage"],
        "DestinationS3Uri": capture["destination"],
        "KmsKeyId": capture["kms_key"],
    }

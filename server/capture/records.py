"""One request and its answer as a line of SageMaker's data capture.

    {"captureData": {"endpointInput": {...}, "endpointOutput": {...}}, "eventMetadata": {...}, "eventVersion": "0"}
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Types:
    """Media types, in lower case and without parameters, whose bodies are kept as text; all others as base64."""

    csv: Collection[str] = ()
    json: Collection[str] = ()

    def encoding(self, media_type: str) -> str:
        return "CSV" if media_type in self.csv else "JSON" if media_type in self.json else "BASE64"


def side(mode: str, content_type: str, body: bytes, types: Types) -> dict[str, str]:
    """What one side of a record holds; `mode` is INPUT or OUTPUT."""
    known = {"observedContentType": content_type, "mode": mode}
    encoding = types.encoding(content_type.partition(";")[0].strip().lower())
    if encoding != "BASE64":
        try:
            return {**known, "data": body.decode(), "encoding": encoding}
        except UnicodeDecodeError:
            pass
    return {**known, "data": base64.b64encode(body).decode(), "encoding": "BASE64"}


def line(sides: Mapping[str, Mapping[str, str]], event_id: str, at: float, **more: Any) -> str:
    """The record of `sides`, by their member of captureData. `at`: seconds since 1970. `more`: what else is known."""
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = {"eventId": event_id, **more, "inferenceTime": moment}
    return json.dumps({"captureData": sides, "eventMetadata": meta, "eventVersion": "0"})

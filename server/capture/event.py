"""One captured request on its way into a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.capture.records import Types, line, side
from server.dialects import eventstream
from server.dialects.service_model import INVOKE, INVOKE_STREAM, header_name
from server.spec import Capture

Headers = Sequence[tuple[bytes, bytes]]

CUSTOM = header_name(INVOKE, "CustomAttributes", output=False).lower().encode()
INFERENCE = header_name(INVOKE, "InferenceId", output=False).lower().encode()
_INNER_TYPE = header_name(INVOKE_STREAM, "ContentType").lower().encode()


class Incomplete(Exception):
    """The answer ended with an error."""


@dataclass(frozen=True, slots=True)
class Event:
    """By reference: what the server had in memory anyway."""

    capture: Capture
    """As it was when the request was sampled."""
    request_id: str
    at: float
    """Seconds since 1970, when the answer was complete."""
    headers: Headers
    """The request's."""
    body: bytes
    answer_headers: Headers
    answer: Sequence[bytes]
    size: int
    """Bytes that are charged for it."""

    def line(self) -> str:
        """Nothing of the headers but content types, CustomAttributes and InferenceId is in it. Raises Incomplete."""
        capture = self.capture
        types = Types(csv=capture.csv_types, json=capture.json_types)
        content_type, answer = self._answer()
        sides = {}
        if capture.input:
            sides["endpointInput"] = side("INPUT", _header(self.headers, b"content-type"), self.body, types)
        if capture.output:
            sides["endpointOutput"] = side("OUTPUT", content_type, answer, types)
        more: dict[str, Any] = {}
        if custom := _header(self.headers, CUSTOM):
            more["customAttributes"] = [custom]
        if inference := _header(self.headers, INFERENCE):
            more["inferenceId"] = inference
        return line(sides, self.request_id, self.at, **more)

    def _answer(self) -> tuple[str, bytes]:
        """Type and body; of an AWS event stream, what its events carry."""
        content_type, body = _header(self.answer_headers, b"content-type"), b"".join(self.answer)
        if content_type != eventstream.CONTENT_TYPE or not self.capture.output:
            return content_type, body
        events = list(eventstream.events(body))
        if any(failed for failed, _ in events):
            raise Incomplete
        return _header(self.answer_headers, _INNER_TYPE), b"".join(payload for _, payload in events)


def _header(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")

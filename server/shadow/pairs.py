"""Differing pairs of answers in full: a bounded sample, on its way from a replica to the object store.

Each is written as two records of SageMaker's data capture, one under each variant's name, with one event id.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.capture.records import Types, line, side
from server.shadow.copies import Answered, Copy

PAIR_BYTES = 64 * 1024
"""Of a request, and of each answer; a pair with a longer one is counted and not kept."""
TEXTS = Types(csv=("text/csv",), json=("application/json",))
"""Where an experiment names none of its own."""


@dataclass(frozen=True, slots=True)
class Side:
    """One variant's answer."""

    status: int
    content_type: str
    body: bytes

    @classmethod
    def of(cls, answer: Answered) -> Side:
        return cls(answer.status, answer.header(b"content-type"), answer.body or b"")


@dataclass(frozen=True, slots=True)
class Pair:
    subject: str
    request_id: str
    at: float
    content_type: str
    """The request's."""
    body: bytes
    production: Side
    shadow: Side

    @classmethod
    def of(cls, copy: Copy, shadow: Answered) -> Pair | None:
        """None: it is longer than what is kept."""
        bodies = (copy.body, copy.answer.body, shadow.body)
        if any(body is None or len(body) > PAIR_BYTES for body in bodies):
            return None
        kind = next((value.decode("latin-1") for name, value in copy.headers if name == b"content-type"), "")
        sides = Side.of(copy.answer), Side.of(shadow)
        return cls(copy.target.subject, copy.request_id, copy.at, kind, copy.body, *sides)

    def to_wire(self) -> dict[str, Any]:
        return {
            "subject": self.subject, "request_id": self.request_id, "at": self.at, "content_type": self.content_type,
            "body": _text(self.body), "production": _side(self.production), "shadow": _side(self.shadow),
        }  # fmt: skip

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Pair:
        """Raises KeyError, TypeError or ValueError for what `to_wire` did not make."""
        sides = {
            name: Side(int(message[name]["status"]), str(message[name]["content_type"]), _bytes(message[name]["body"]))
            for name in ("production", "shadow")
        }
        return cls(
            str(message["subject"]), str(message["request_id"]), float(message["at"]), str(message["content_type"]),
            _bytes(message["body"]), **sides,
        )  # fmt: skip

    def records(self, types: Types = TEXTS) -> tuple[str, str]:
        """The lines for production and shadow."""
        return self._record(self.production, types), self._record(self.shadow, types)

    def _record(self, answer: Side, types: Types) -> str:
        sides = {
            "endpointInput": side("INPUT", self.content_type, self.body, types),
            "endpointOutput": side("OUTPUT", answer.content_type, answer.body, types),
        }
        return line(sides, self.request_id, self.at, statusCode=answer.status)


def _side(side: Side) -> dict[str, Any]:
    return {"status": side.status, "content_type": side.content_type, "body": _text(side.body)}


def _text(body: bytes) -> str:
    return base64.b64encode(body).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)

"""What goes between those who see requests and those who copy them: small records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

Address = tuple[str, int]
Headers = tuple[tuple[bytes, bytes], ...]

TOOK = b"x-hearth-model-seconds"
"""Header of an answer to a copy: seconds from when the shadow's model was asked to the answer's beginning."""
ANSWER_BYTES = 1024 * 1024
"""Of an answer that are kept to be compared; a longer one is compared by its status and latency alone."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a production replica is told with each beat's answer: where copies go, and how many."""

    subject: str
    """Names what is compared: one revision of one shadow variant, in one experiment or none."""
    variant: str
    share: float
    """Of the requests, 0 to 1."""
    keeps: bool
    """Whether differing pairs of answers are wanted in full."""
    timeout_s: float
    """Seconds that a copy may take."""
    replicas: tuple[Address, ...]
    """Shadow replicas that are ready."""

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Target:
        """Raises KeyError, TypeError or ValueError for what `to_wire` did not make."""
        return cls(**{**message, "replicas": tuple((str(host), int(port)) for host, port in message["replicas"])})


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer as it went out. `body` None: it was longer than what is kept."""

    status: int
    headers: Headers
    body: bytes | None
    seconds: float

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True, slots=True)
class Copy:
    """A request as it came in, and how production answered it."""

    target: Target
    request_id: str
    path: str
    """With its query, as it was sent."""
    headers: Headers
    body: bytes
    answer: Answered
    at: float
    """Seconds since 1970."""
    beside: int = 1
    """Requests that the production replica had in flight, this one included."""

    @property
    def size(self) -> int:
        return len(self.body) + len(self.answer.body or b"")


class Copying(Protocol):
    """The guard's view of who copies requests. Both calls return at once and never raise, from any thread."""

    def draw(self) -> Target | None:
        """Where the request at hand is to be copied to; None: nowhere."""
        ...

    def offer(self, copy: Copy) -> None: ...

"""Data calls on their way from a replica to the log: a share of them, in a bounded queue until they are delivered."""

from __future__ import annotations

import random
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from server.audit.caller import Caller
from server.audit.event import Call, Named, Record, record

BOUND = 2000
BATCH = 500
"""Calls that travel with one beat."""


@dataclass(frozen=True, slots=True)
class Who:
    """A caller, as it travels."""

    account: str
    arn: str
    id: str
    access_key: str = ""
    session: bool = False

    @classmethod
    def of(cls, caller: Caller | None) -> Who | None:
        if caller is None:
            return None
        return cls(caller.account, caller.arn, caller.id, caller.access_key, caller.session)


@dataclass(frozen=True, slots=True)
class DataCall:
    """One inference call that ended. `status` 0: its client left before there was one."""

    name: str
    path: str
    status: int
    request_id: str
    address: str
    user_agent: str
    at: float
    """Seconds since 1970."""
    ms: float
    bytes_in: int
    bytes_out: int
    ended: str | None = None
    """Why it was cut short."""
    who: Who | None = None
    """None: nobody was asked, or nobody could be identified."""

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, message: dict[str, Any]) -> DataCall:
        """Raises TypeError when a field is missing or unknown."""
        who = message.get("who")
        return cls(**{**message, "who": None if who is None else Who(**who)})


class Sampled:
    """Calls that wait to be delivered; the oldest are dropped beyond `bound`. Filled and emptied by two threads."""

    def __init__(self, share: float, bound: int = BOUND, draw: Callable[[], float] = random.random) -> None:
        self.dropped = 0
        self._share = share
        self._draw = draw
        self._lock = threading.Lock()
        self._waiting: deque[DataCall] = deque()
        self._bound = bound

    def draws(self) -> bool:
        """Whether the call at hand is one of the share."""
        return self._share > 0 and self._draw() < self._share

    def add(self, call: DataCall) -> None:
        with self._lock:
            self._waiting.append(call)
            if len(self._waiting) > self._bound:
                self._waiting.popleft()
                self.dropped += 1

    def take(self, *, all_of_them: bool = False) -> tuple[list[DataCall], int]:
        """What is to be delivered next, and how many calls were dropped since the last time."""
        with self._lock:
            count = len(self._waiting) if all_of_them else min(BATCH, len(self._waiting))
            taken = [self._waiting.popleft() for _ in range(count)]
            dropped, self.dropped = self.dropped, 0
        return taken, dropped

    def put_back(self, taken: Sequence[DataCall], dropped: int) -> None:
        """After a delivery that failed. One whose answer was lost may be in the log twice."""
        with self._lock:
            room = self._bound - len(self._waiting)
            kept = taken[max(0, len(taken) - room):]
            self._waiting.extendleft(reversed(kept))
            self.dropped += dropped + len(taken) - len(kept)


def event(call: DataCall, endpoint: str, variant: str, account: str, region: str, root: Caller) -> Record:
    """The call as a data event of `endpoint`; `root` is who calls where nobody is asked."""
    failed = call.status >= 400 or call.ended is not None
    stranger = call.who is None and call.status in (401, 403)
    path = re.sub(r"^/endpoints/[^/]+", "", call.path)
    return record(
        Call(
            source="sagemaker.amazonaws.com",
            name=call.name,
            account=account,
            region=region,
            read_only=True,
            caller=None if stranger else call.who or root,
            address=call.address,
            user_agent=call.user_agent,
            request_id=call.request_id,
            parameters={"endpointName": endpoint, "variantName": variant, "path": path[:200]},
            error_code=f"Status{call.status}" if failed else None,
            error_message=call.ended or f"answered with status {call.status}" if failed else None,
            resources=[Named(f"arn:aws:sagemaker:{region}:{account}:endpoint/{endpoint.lower()}",
                             "AWS::SageMaker::Endpoint")],
            category="Data",
            extra={"status": call.status, "milliseconds": call.ms, "bytesIn": call.bytes_in,
                   "bytesOut": call.bytes_out},
            at=datetime.fromtimestamp(call.at, UTC),
        )
    )  # fmt: skip

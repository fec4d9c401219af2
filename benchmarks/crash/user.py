"""A user of the control plane: boto3 as it comes, with its retries, and what each answer says about the world."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from benchmarks.crash.legal import Call, Legal, Reply, Violation

REGION = "us-east-1"
REFUSALS = frozenset(
    ("ValidationException", "ResourceNotFound", "ResourceInUse", "ConflictException", "ResourceLimitExceeded")
)
READ_TIMEOUT_S = 40
POLL_S = 0.5


def client(url: str, service: str, **config: Any) -> Any:
    """A boto3 client with its own way to retry."""
    session = boto3.Session(region_name=REGION, aws_access_key_id="any", aws_secret_access_key="any")
    return session.client(service, endpoint_url=url, config=Config(read_timeout=READ_TIMEOUT_S, **config))


@dataclass(slots=True)
class Counts:
    """What became of the calls."""

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    """No attempt was answered, so the call happened or did not."""
    unreached: int = 0
    """No attempt met a listener, so the call did not happen."""
    retried: int = 0
    """Answered after an attempt that was not."""
    lost: Counter[str] = field(default_factory=Counter)
    """Attempts without an answer, by what came instead."""


class User:
    """One client, one call at a time. `legal` is what may be true after all that it saw."""

    def __init__(self, url: str, counts: Counts) -> None:
        self.legal = Legal()
        self.counts = counts
        self.answered = True
        """Whether the last call was."""
        self._lost = 0
        self._client = client(url, "sagemaker")
        self._client.meta.events.register("response-received.sagemaker", self._note)

    def close(self) -> None:
        self._client.close()

    def call(self, operation: str, **request: Any) -> Mapping[str, Any] | None:
        """The answer, or None for a refusal and for no answer at all. Raises Violation."""
        made = Call(operation, request)
        self._lost, self.answered = 0, True
        try:
            reply = Reply(getattr(self._client, operation)(**request))
        except ClientError as error:
            told, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status >= 500:
                self._unanswered(made)
                return None
            if status != 400 or told["Code"] not in REFUSALS:
                raise Violation(f"{made} was answered {status} {told['Code']}: {told['Message']}") from error
            reply = Reply({}, f"{told['Code']}: {told['Message']}")
        except BotoCoreError:
            self._unanswered(made)
            return None
        self.legal.answered(made, reply, self._lost)
        self.counts.retried += bool(self._lost)
        if reply.refusal is not None:
            self.counts.refused += 1
            return None
        self.counts.acknowledged += 1
        return reply.body

    def status(self, endpoint: str) -> str | None:
        """None when it is not there, or nobody said."""
        found = self.call("describe_endpoint", EndpointName=endpoint)
        return None if found is None else str(found["EndpointStatus"])

    def settle(self, endpoint: str, within_s: float) -> bool:
        """Waits until the endpoint is in no state that passes; False when it stays in one."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._stable(endpoint):
                return True
            time.sleep(POLL_S)
        return False

    def _stable(self, endpoint: str) -> bool:
        status = self.status(endpoint)
        return self.answered and status not in ("Creating", "Updating", "Deleting")

    def _unanswered(self, made: Call) -> None:
        self.answered = False
        if self._lost:
            self.counts.unknown += 1
        else:
            self.counts.unreached += 1
        self.legal.unanswered(made, self._lost)

    def _note(self, response_dict: Any, exception: Exception | None, parsed_response: Any, **_: Any) -> None:
        """Each attempt passes here. One that met no listener cannot have done anything."""
        if isinstance(exception, EndpointConnectionError | ConnectTimeoutError):
            return
        if exception is not None:
            self._lose(type(exception).__name__)
        elif response_dict["status_code"] >= 500:
            code = (parsed_response or {}).get("Error", {}).get("Code", "")
            self._lose(f"{response_dict['status_code']} {re.sub('[^A-Za-z]', '', code)}".strip())

    def _lose(self, why: str) -> None:
        self._lost += 1
        self.counts.lost[why] += 1

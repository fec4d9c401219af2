"""Several containers behind one address: an inference pipeline, or one container of the request's choice.

All are engines of one replica, so what goes from one to the next stays in memory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.dialects.call import COMPONENT, TARGET_CONTAINER
from server.dialects.engine import Answer, Invocation, PayloadEngine
from server.dialects.errors import Refusal, Refused, refusal
from server.errors import BadRequest, ModelFailed
from server.guard.metrics import ContainerMetrics

REWRITTEN = ("content-type", "accept", "x-amzn-sagemaker-accept", TARGET_CONTAINER, COMPONENT.decode())
"""Headers that are each container's own."""


@dataclass(frozen=True, slots=True)
class Container:
    """An engine under its container's host name."""

    name: str
    engine: PayloadEngine
    metrics: ContainerMetrics

    async def invoke(self, invocation: Invocation) -> Answer:
        """In parts only where `invocation` takes them. Raises Refused, with the name, for what the container answers
        with an error; Throttled and Unavailable as they are."""
        started = time.perf_counter()
        try:
            answer = await self.engine.invoke(invocation)
            if not invocation.streams:
                answer = Answer(await answer.whole(), answer.content_type)
        except Refused as refused:
            raise self._refused(refused.refusal, started) from refused
        except (BadRequest, ModelFailed) as error:
            raise self._refused(refusal(error), started) from error
        self.metrics.answered(time.perf_counter() - started)
        return answer

    def _refused(self, answer: Refusal, started: float) -> Refused:
        self.metrics.failed(time.perf_counter() - started, answer.status)
        return Refused(replace(answer, container=self.name))


class Serial:
    """A `PayloadEngine`: the request goes to the first container, what that answers to the second, and so on; the last
    one's answer goes back. Only the last hears of Accept: what the others answer is between them, and their own
    default (`SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT`) says in which type."""

    def __init__(self, containers: Sequence[Container]) -> None:
        *self._first, self._last = containers

    async def invoke(self, invocation: Invocation) -> Answer:
        asked = _rewritten(invocation, invocation.body, invocation.content_type, "", streams=False)
        for container in self._first:
            answer = await container.invoke(asked)
            asked = _rewritten(asked, await answer.whole(), answer.content_type, "", streams=False)
        last = _rewritten(
            asked, asked.body, asked.content_type, invocation.accept, streams=invocation.streams
        )
        return await self._last.invoke(last)


class Direct:
    """A `PayloadEngine`: the container that the request names answers. The dialect has made sure that it names one
    (`Engines.targets`)."""

    def __init__(self, containers: Sequence[Container]) -> None:
        self._containers = {container.name: container for container in containers}

    async def invoke(self, invocation: Invocation) -> Answer:
        named = self._containers[invocation.headers[TARGET_CONTAINER]]
        asked = _rewritten(
            invocation, invocation.body, invocation.content_type, invocation.accept, streams=invocation.streams
        )
        return await named.invoke(asked)


def _rewritten(invocation: Invocation, body: bytes, content_type: str, accept: str, *, streams: bool) -> Invocation:
    """`invocation` as one container gets it: the same request with another body."""
    kept = {name: value for name, value in invocation.headers.items() if name not in REWRITTEN}
    own = {name: value for name, value in (("content-type", content_type), ("accept", accept)) if value}
    return Invocation(body, content_type, accept, {**kept, **own}, invocation.request_id, streams)

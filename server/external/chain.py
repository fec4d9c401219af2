"""A request's way through the providers: tried again while that may help, handed on to the next where one cannot
answer, both before the answer has begun; then its tokens are counted, for whoever asked."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import structlog

from server.errors import BadRequest, HearthError, ModelFailed, Throttled, Unavailable
from server.external import metrics
from server.external.budgets import Budgets, OverBudget
from server.external.chat import Body, Delta, Usage
from server.external.metrics import ProviderMetrics
from server.external.provider import Embedded, Provider
from server.external.wire import ProviderFailed
from server.identity.asking import CALLER
from server.identity.principal import Principal

log = structlog.get_logger(__name__)

FIRST_WAIT_S, MOST_WAIT_S = 0.5, 8.0
"""Before a provider is asked again: twice as long each time, at random between half of it and all."""
CHARACTERS = 4
"""Of a token, where a provider did not come to say how many there were."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Link:
    provider: Provider
    metrics: ProviderMetrics


class Chain:
    """The providers of one variant, in order."""

    def __init__(
        self, links: Sequence[Link], retries: int, budgets: Budgets, endpoint: str, variant: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._links = tuple(links)
        self._retries = retries
        self._budgets = budgets
        self._names = (endpoint, variant)
        self._sleep = sleep
        self.tokens = 0
        """Written so far."""
        self.used = 0
        """Read and written so far."""

    async def chat(self, body: Body, *, stream: bool) -> AsyncGenerator[Delta, None]:
        """Parts of the answer. Raises OverBudget, BadRequest, Throttled, Unavailable, ModelFailed."""
        principal = await self._admitted()
        link, deltas, first, begun = await self._first(body, stream)
        seen, usage = 0, first.usage
        try:
            async with aclosing(deltas):
                yield first
                seen += _length(first)
                async for delta in deltas:
                    usage = delta.usage or usage
                    seen += _length(delta)
                    yield delta
            link.metrics.ended(time.perf_counter() - begun)
        except ProviderFailed as failure:
            link.metrics.broke()
            log.warning("a provider broke off", provider=link.provider.options.provider, status=failure.status)
            raise ModelFailed(f"the provider failed while answering: {failure.message}") from failure
        finally:
            await self._spend(principal, link, _counted(usage, body, seen))

    async def embed(self, texts: Sequence[str], dimensions: int | None = None) -> Embedded:
        """Raises as `chat` does."""
        principal = await self._admitted()
        begun = time.perf_counter()

        async def ask(link: Link) -> tuple[Link, Embedded]:
            return link, await link.provider.embed(texts, dimensions)

        link, found = await self._through(ask)
        link.metrics.ended(time.perf_counter() - begun)
        await self._spend(principal, link, found.usage)
        return found

    async def _admitted(self) -> Principal | None:
        principal = CALLER.get()
        if self._budgets.limited:
            try:
                await asyncio.to_thread(self._budgets.check, principal)
            except OverBudget:
                metrics.over_budget(*self._names)
                raise
        return principal

    async def _first(self, body: Body, stream: bool) -> tuple[Link, AsyncGenerator[Delta, None], Delta, float]:
        """Who answers, what is left of the answer, its beginning, and when it was asked."""

        async def ask(link: Link) -> tuple[Link, AsyncGenerator[Delta, None], Delta, float]:
            begun = time.perf_counter()
            deltas = link.provider.chat(body, stream=stream)
            try:
                first = await anext(deltas)
            except StopAsyncIteration:
                raise ProviderFailed("the provider answered nothing") from None
            except BaseException:
                await deltas.aclose()
                raise
            link.metrics.began(time.perf_counter() - begun)
            return link, deltas, first, begun

        return await self._through(ask)

    async def _through(self, ask: Callable[[Link], Awaitable[Value]]) -> Value:
        failure: ProviderFailed | None = None
        for place, link in enumerate(self._links):
            if place:
                link.metrics.fell_back()
            for attempt in range(self._retries + 1):
                try:
                    return await ask(link)
                except ProviderFailed as error:
                    failure = error
                    link.metrics.failed(error.status)
                    named = link.provider.options
                    log.warning(
                        "a provider did not answer", provider=named.provider, model=named.model, status=error.status,
                        attempt=attempt + 1,
                    )  # fmt: skip
                    if error.callers:
                        raise BadRequest(error.message) from error
                    if not error.passes:
                        break
                    if attempt < self._retries:
                        await self._sleep(_wait_s(attempt, error))
        assert failure is not None
        raise _told(failure) from failure

    async def _spend(self, principal: Principal | None, link: Link, usage: Usage) -> None:
        self.tokens += usage.written
        self.used += usage.read + usage.written
        link.metrics.used(usage)
        if self._budgets.limited:
            try:
                await asyncio.to_thread(self._budgets.spend, principal, usage.read + usage.written)
            except HearthError as error:
                log.error("tokens not counted", tokens=usage.read + usage.written, error=error.message)


def _wait_s(attempt: int, failure: ProviderFailed) -> float:
    wait: float = min(MOST_WAIT_S, FIRST_WAIT_S * 2**attempt) * (0.5 + random.random() / 2)
    return min(MOST_WAIT_S, max(wait, failure.retry_after or 0.0))


def _told(failure: ProviderFailed) -> HearthError:
    """What the caller is told of the last provider's failure."""
    if failure.status == 429:
        return Throttled(failure.message, retry_after=max(1, round(failure.retry_after or 1)))
    if failure.passes:
        return Unavailable(f"No provider answered: {failure.message}")
    return ModelFailed(f"No provider answered: {failure.message}")


def _length(delta: Delta) -> int:
    return sum(len(json.dumps(each.get("delta"))) for each in delta.choices)


def _counted(usage: Usage | None, body: Body, seen: int) -> Usage:
    """What the provider said; of an answer that ended before it did, about what it must have been."""
    if usage is not None and usage.written:
        return usage
    read = usage.read if usage is not None and usage.read else _characters(body) // CHARACTERS
    return Usage(read, seen // CHARACTERS)


def _characters(body: Body) -> int:
    return len(json.dumps(body.get("messages", ""), ensure_ascii=False))

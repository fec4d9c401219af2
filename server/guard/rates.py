"""The account's rates, as far as this replica may use them: requests a second and tokens a minute.

The controller divides an account's quotas among all its replicas, by what each was asked for
(`server.controller.rates`); between two beats a replica goes by its share alone. A request counts when it is let in.
Tokens count when the engine has read or made them: a request is let in while its account owes none, and what it used
is owed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from server.beat import Grant, Report, Usage
from server.errors import Throttled
from server.guard.bucket import Bucket

Headers = list[tuple[bytes, bytes]]
SPAN_S: Mapping[str, float] = {"requests": 1.0, "tokens": 60.0}
"""How much of each rate may be saved up: what flows in within so many seconds."""
PER: Mapping[str, str] = {"requests": "second", "tokens": "minute"}


class OverRate(Throttled):
    """`rate` is the one that has run out."""

    def __init__(self, rate: str, limit: float, retry_after: int) -> None:
        super().__init__(
            f"Rate limit reached for {rate}: the account may have {limit:,.15g} in a {PER[rate]}. "
            f"Try again in {retry_after} s.",
            retry_after=retry_after,
        )
        self.rate = rate


class Rates:
    """`tokens` says how many the engine has read and made since it started. Both loops of a replica call this."""

    def __init__(self, tokens: Callable[[], int] = lambda: 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._clock = clock
        self._mutex = threading.Lock()
        self._buckets = {rate: Bucket(span, clock) for rate, span in SPAN_S.items()}
        self._limits: dict[str, float | None] | None = None
        """In their own units; None: not heard of yet."""
        self._limited = False
        self._asked = self._refused = self._seen_tokens = self._charged = 0
        self._reported_at = clock()
        self._reports = 0

    @property
    def known(self) -> bool:
        """Whether the controller has said what holds."""
        return self._limits is not None

    @property
    def limited(self) -> bool:
        """Whether any rate has a limit."""
        return self._limited

    def admit(self) -> None:
        """Counts one request. Raises OverRate."""
        self._asked += 1
        if not self._limited:
            return
        with self._mutex:
            requests, tokens = self._buckets["requests"], self._buckets["tokens"]
            if tokens.rate is not None:
                self._settle()
            if requests.rate is not None and requests.level < 1.0:
                raise self._over("requests")
            if tokens.rate is not None and tokens.level <= 0.0:
                raise self._over("tokens")
            requests.charge(1.0)

    def _over(self, rate: str) -> OverRate:
        limit = (self._limits or {})[rate]
        assert limit is not None
        self._refused += 1
        return OverRate(rate, limit, self._buckets[rate].wait_s())

    def headers(self) -> Headers:
        """OpenAI's `x-ratelimit-*`: the account's limits, and what is left of this replica's share."""
        found: Headers = []
        with self._mutex:
            for rate, limit in (self._limits or {}).items():
                if limit is not None:
                    bucket = self._buckets[rate]
                    values = f"{limit:.0f}", f"{max(0.0, bucket.level):.0f}", _duration(bucket.full_in_s())
                    found += [
                        (f"x-ratelimit-{name}-{rate}".encode(), value.encode())
                        for name, value in zip(("limit", "remaining", "reset"), values, strict=True)
                    ]
        return found

    def report(self, account: str) -> Report:
        """What was asked for since the last report that was answered (`learn`)."""
        with self._mutex:
            self._reports += 1
            self._settle()
            seconds = max(0.05, self._clock() - self._reported_at)
            tokens = self._charged / seconds
            if self._refused:  # nobody knows what those would have used
                tokens = max(tokens, 2.0 * (self._buckets["tokens"].rate or 0.0), 1.0)
            wanted = {"requests": self._asked / seconds, "tokens": tokens}
            usages = {rate: Usage(self._held(rate), wanted[rate]) for rate in self._buckets}
            return Report(account, self._reports, usages)

    def learn(self, wire: Mapping[str, Any] | None) -> None:
        """The controller's answer, by rate; None: it does not know yet, and all stays as it is. Raises TypeError or
        KeyError for what is none."""
        if wire is None:
            return
        granted = {rate: None if wire[rate] is None else Grant.from_wire(wire[rate]) for rate in self._buckets}
        with self._mutex:
            self._settle()
            self._asked = self._refused = self._charged = 0
            self._reported_at = self._clock()
            for rate, grant in granted.items():
                self._buckets[rate].flow(None if grant is None else grant.share)
            self._limits = {rate: None if grant is None else grant.limit for rate, grant in granted.items()}
            self._limited = any(grant is not None for grant in granted.values())

    def _held(self, rate: str) -> float | None:
        return self._buckets[rate].rate if self.known else 0.0

    def _settle(self) -> None:
        """Charges what the engine has used since the last time."""
        now = self._tokens()
        used, self._seen_tokens = now - self._seen_tokens, now
        self._charged += used
        if used:
            self._buckets["tokens"].charge(used)


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `7.66s`, `2m59.56s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.3g}s" if minutes else f"{rest:.3g}s"

"""A replica's part of its account's rates: the bucket, and what clients are told."""

from __future__ import annotations

import math
from typing import Any

import httpx
import openai
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from server.guard.bucket import Bucket
from server.guard.rates import OverRate, Rates
from tests.fixtures.fake_engines import text_engines
from tests.fixtures.served import guarded, serving


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def granted(requests: float | None = None, tokens: float | None = None, share: float = 1.0) -> dict[str, Any]:
    """An answer of the controller's: the account's limits, and the part of them that is this replica's."""
    return {
        "requests": None if requests is None else {"limit": requests, "share": requests * share},
        "tokens": None if tokens is None else {"limit": tokens, "share": tokens * share / 60},
    }


def taken(rates: Rates, times: int) -> int:
    """How many of so many requests are let in."""
    count = 0
    for _ in range(times):
        try:
            rates.admit()
            count += 1
        except OverRate:
            continue
    return count


@given(
    st.lists(st.tuples(st.sampled_from(("pass", "take", "rate")), st.floats(0, 20), st.integers(0, 9)), max_size=60),
    st.sampled_from((1.0, 60.0)),
)
def test_a_bucket_gives_no_more_than_flowed_in(history: list[tuple[str, float, int]], span: float) -> None:
    clock = Clock()
    bucket = Bucket(span, clock)
    bucket.flow(1.0)
    inflow, given_out = 1.0, 0
    for what, value, number in history:
        if what == "pass":
            clock.now += value
            inflow += (bucket.rate or 0.0) * value
        elif what == "rate":
            bucket.flow(value)
        else:
            for _ in range(number):
                if bucket.level >= 1.0:
                    bucket.charge(1.0)
                    given_out += 1
        assert given_out <= inflow + 1e-6
        assert bucket.level <= bucket.size
        assert bucket.size == 0 or bucket.size >= 1


def test_requests_flow_in_as_the_share_says() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    assert not rates.known
    assert taken(rates, 50) == 50  # nobody has said that there is a limit
    rates.learn(granted(requests=10))
    assert taken(rates, 50) == 1
    clock.now += 0.5
    assert taken(rates, 50) == 5
    clock.now += 100
    assert taken(rates, 50) == 10  # no more than a second's is saved
    rates.learn(granted(requests=10, share=0.02))
    clock.now += 5
    assert taken(rates, 50) == 1  # one in five seconds is still one
    rates.learn(granted(requests=0))
    clock.now += 1000
    assert taken(rates, 5) == 0
    rates.learn(granted())
    assert taken(rates, 500) == 500


def test_tokens_are_owed_when_they_are_used() -> None:
    clock, used = Clock(), [0]
    rates = Rates(lambda: used[0], clock)
    rates.learn(granted(tokens=600))
    clock.now += 120
    assert taken(rates, 3) == 3
    used[0] = 650  # a minute's are 600
    with pytest.raises(OverRate) as refused:
        rates.admit()
    assert refused.value.retry_after == 6
    assert refused.value.rate == "tokens"
    clock.now += 5.2
    assert taken(rates, 1) == 1
    report = rates.report("1").usages["tokens"]
    assert report.held == 10
    assert report.wanted >= 20  # some were refused, so it wants more than it has


def test_what_is_reported() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    first = rates.report("1")
    assert (first.number, first.usages["requests"].held) == (1, 0.0)
    rates.learn(None)
    assert not rates.known
    rates.learn(granted())
    assert rates.report("1").usages["requests"].held is None
    clock.now += 1
    rates.learn(granted(requests=4, share=0.5))
    taken(rates, 20)
    clock.now += 2
    report = rates.report("1")
    assert report.usages["requests"].held == 2
    assert report.usages["requests"].wanted == 10  # with those that were refused
    assert report.number == 3


def test_clients_are_told_in_their_dialect() -> None:
    rates = Rates()
    rates.learn(granted(requests=0.001, tokens=60_000))
    with serving(guarded(text_engines(), rates=rates)) as served:
        raw = served.openai().chat.completions.with_raw_response
        messages: Any = [{"role": "user", "content": "hi"}]
        first = raw.create(model="m", messages=messages)
        assert first.headers["x-ratelimit-limit-requests"] == "0"
        assert first.headers["x-ratelimit-limit-tokens"] == "60000"
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")
        with pytest.raises(openai.RateLimitError) as limited:
            raw.create(model="m", messages=messages)
        assert limited.value.code == "rate_limit_exceeded"
        assert 900 < int(limited.value.response.headers["retry-after"]) <= 1000
        assert limited.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(ClientError) as throttled:
            served.boto3().invoke_endpoint(EndpointName="m", Body=b'{"inputs": "a"}')
        error = throttled.value.response
        assert error["Error"]["Code"] == "ThrottlingException"
        assert "Rate limit reached for requests" in error["Error"]["Message"]
        assert not any(name.startswith("x-ratelimit") for name in error["ResponseMetadata"]["HTTPHeaders"])
        assert httpx.get(f"{served.url}/v1/models").status_code == 200
        rates.learn(granted())
        assert served.boto3().invoke_endpoint(EndpointName="m", Body=b'{"inputs": "a"}')["Body"].read()
        assert "x-ratelimit-limit-requests" not in raw.create(model="m", messages=messages).headers


def test_a_bucket_without_a_rate_is_endless() -> None:
    bucket = Bucket(1.0)
    assert bucket.size == math.inf
    bucket.charge(1e9)
    assert bucket.level >= 1

"""A short run of `python -m benchmarks.fuzz`, and its generators."""

from __future__ import annotations

import asyncio

from benchmarks.fuzz.report import lines
from benchmarks.fuzz.run import request, run
from benchmarks.fuzz.targets import started


def test_a_number_is_always_the_same_request() -> None:
    for number in range(300):
        assert request(5, number).bytes() == request(5, number).bytes()
    assert len({request(5, number).bytes() for number in range(300)}) > 250


def test_no_500_nothing_late_nothing_left() -> None:
    with started() as targets:
        tally = asyncio.run(run(targets, seed=20261124, first=0, count=900, seconds=240.0, workers=4))
    assert not tally.failures, "\n".join(f"#{each.number} {each.what}\n{each.request}" for each in tally.failures)
    assert not tally.grown
    assert tally.sent > 100
    assert {"aws cbor", "aws json", "aws query", "hearth", "openai", "runtime", "s3"} <= tally.statuses.keys()
    assert any("500s, late or broken off: 0" in line for line in lines(tally))

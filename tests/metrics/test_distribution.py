"""Distributions against plain lists of their values."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.metrics.distribution import ACCURACY, TINY, Distribution

values = st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > TINY)
many = st.lists(values, min_size=1, max_size=60)


def ranked(given: list[float], share: float) -> float:
    return sorted(given)[math.floor(share * (len(given) - 1))]


@given(many, st.floats(0, 1))
def test_a_percentile_is_within_a_hundredth_of_a_value_that_was_seen(seen: list[float], share: float) -> None:
    wanted = ranked(seen, share)
    assert Distribution.of(seen).percentile(share) == pytest.approx(wanted, rel=1.01 * ACCURACY)


@given(many, many)
def test_two_add_up_to_one_of_all(one: list[float], two: list[float]) -> None:
    merged = Distribution.of(one)
    merged.merge(Distribution.of(two))
    both = Distribution.of(one + two)
    assert (merged.count, merged.minimum, merged.maximum) == (both.count, both.minimum, both.maximum)
    assert merged.total == pytest.approx(both.total, abs=1e-2)
    assert merged.percentile(0.9) == both.percentile(0.9)


@given(many)
def test_it_travels_whole(seen: list[float]) -> None:
    sent = Distribution.of(seen)
    arrived = Distribution.from_wire(json.loads(json.dumps(sent.to_wire())))
    assert arrived.to_wire() == sent.to_wire()


def test_a_count_stands_for_so_many_values() -> None:
    weighted = Distribution()
    weighted.add(1.0, 9)
    weighted.add(100.0)
    assert (weighted.count, weighted.total, weighted.average) == (10, 109, 10.9)
    assert weighted.percentile(0.5) == 1.0
    assert weighted.percentile(1.0) == 100.0


def test_a_summary_has_no_percentiles() -> None:
    summary = Distribution.summary(3, 6, 1, 3)
    assert (summary.average, math.isnan(summary.percentile(0.5))) == (2, True)


@pytest.mark.parametrize("wire", [[], [1, 2, 3], [1, 2, 3, 4, 5], ["a", 1, 1, 1], [1, 1, 1, 1, "x", 1]])
def test_what_is_no_distribution_is_refused(wire: list[object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Distribution.from_wire(wire)

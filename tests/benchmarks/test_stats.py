from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.dialects import Outcome
from benchmarks.stats import Distribution, Slo, summarize
from benchmarks.worker import Record


def streamed(at: float, *chunks: float, tokens: int | None = None, late: float = 0.0) -> Record:
    """A request due at `at` whose chunks came at those seconds."""
    outcome = Outcome("200", "", len(chunks) if tokens is None else tokens, 5, array("d", chunks))
    return Record(at, at + late, chunks[-1], outcome)


def unary(at: float, ended: float, status: str = "200", tokens: int = 1) -> Record:
    return Record(at, at, ended, Outcome(status, "", tokens, 5))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=200))
def test_percentiles_are_numpys(values: list[float]) -> None:
    found = Distribution.of_seconds(values)
    expected = np.percentile(np.array(values) * 1000, [50, 95, 99])
    assert (found.p50, found.p95, found.p99) == pytest.approx(tuple(expected))
    assert found.mean == pytest.approx(float(np.mean(values)) * 1000)
    assert found.count == len(values)
    assert found.max == pytest.approx(max(values) * 1000)


def test_latencies_of_known_streams() -> None:
    records = [streamed(10.0, 10.1, 10.2, 10.4), streamed(11.0, 11.3, 11.35)]
    summary = summarize(records, 10.0, 20.0)
    assert summary.ttft.p50 == pytest.approx(200)  # of 100 and 300
    assert summary.tpot.p50 == pytest.approx(100)  # of 300 / 2 and 50 / 1
    assert summary.itl.count == 3
    assert summary.itl.max == pytest.approx(200)
    assert summary.e2e.mean == pytest.approx((400 + 350) / 2)


def test_tpot_counts_tokens_not_chunks() -> None:
    """A server that puts two tokens into a chunk is not twice as slow."""
    assert summarize([streamed(0.0, 1.0, 2.0, tokens=5)], 0.0, 10.0).tpot.p50 == pytest.approx(250)


def test_rates_count_what_happened_inside_the_window() -> None:
    records = [
        streamed(9.0, 9.5, 10.5, 11.5),  # began in warm-up: two of its chunks count, its latency does not
        streamed(11.0, 11.5, 12.5),  # ended after the window: one of its chunks counts
    ]
    summary = summarize(records, 10.0, 12.0)
    assert summary.chunks_per_s == pytest.approx(3 / 2)
    assert summary.output_tokens_per_s == pytest.approx(3 / 2)
    assert summary.requests_per_s == pytest.approx(1 / 2)
    assert summary.requests == 1
    assert summary.ttft.count == 1


def test_without_an_end_the_window_is_up_to_the_last_reply() -> None:
    summary = summarize([unary(0.0, 1.0), unary(1.0, 4.0)], 0.0, None)
    assert summary.seconds == pytest.approx(4.0)
    assert summary.requests_per_s == pytest.approx(0.5)


def test_errors_are_counted_by_status_and_have_no_latency() -> None:
    records = [unary(0.0, 0.1), unary(0.0, 0.02, "429"), unary(0.0, 0.04, "429"), unary(0.0, 9.0, "timeout")]
    summary = summarize(records, 0.0, 10.0)
    assert summary.statuses == {"200": 1, "429": 2, "timeout": 1}
    assert (summary.requests, summary.completed) == (4, 1)
    assert summary.e2e.max == pytest.approx(100)
    assert summary.refused.p50 == pytest.approx(30)


def test_goodput_needs_every_bound_met() -> None:
    records = [
        streamed(0.0, 0.1, 0.2),  # within both
        streamed(0.0, 0.3, 0.4),  # TTFT over
        streamed(0.0, 0.1, 0.5),  # TPOT over
        unary(0.0, 0.1, "500"),
    ]
    summary = summarize(records, 0.0, 2.0, Slo.parse("ttft:200,tpot:150"))
    assert summary.goodput_per_s == pytest.approx(1 / 2)
    assert summarize(records, 0.0, 2.0, Slo.parse("ttft:400")).goodput_per_s == pytest.approx(3 / 2)


def test_nothing_answered_gives_zeros() -> None:
    summary = summarize([unary(0.0, 1.0, "unreachable")], 0.0, 2.0, Slo.parse("e2e:10"))
    assert (summary.e2e.count, summary.requests_per_s, summary.goodput_per_s) == (0, 0.0, 0.0)


def test_slo_of_all_fields() -> None:
    assert Slo.parse("ttft:200, tpot:50.5,e2e:1e3").bounds == {"ttft": 200.0, "tpot": 50.5, "e2e": 1000.0}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("p99:200", "'p99'"),
        ("ttft", "ttft"),
        ("ttft:fast", "'fast'"),
        ("ttft:0", "above 0"),
        ("ttft:nan", "above 0"),
        ("ttft:1,ttft:2", "twice"),
        ("", "''"),
    ],
)
def test_slo_errors_name_the_part(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Slo.parse(text)

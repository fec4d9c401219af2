from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.arrivals import Arrival, load_trace, poisson
from benchmarks.load import Plan, shares
from benchmarks.target import Target
from benchmarks.worker import Alarm

TARGET = Target("http://127.0.0.1:1", "m")


def test_poisson_has_the_rate_and_the_spread_of_a_poisson_process() -> None:
    at = np.array([arrival.at for arrival in poisson(200.0, 100.0, seed=3)])
    assert len(at) == pytest.approx(20_000, rel=0.03)
    gaps = np.diff(at)
    assert gaps.min() >= 0
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)  # exponential: deviation equals mean
    assert at.max() < 100.0


def test_poisson_repeats_with_its_seed() -> None:
    assert poisson(5.0, 10.0, 1) == poisson(5.0, 10.0, 1)
    assert poisson(5.0, 10.0, 1) != poisson(5.0, 10.0, 2)
    with pytest.raises(ValueError, match="above 0"):
        poisson(0.0, 1.0, 0)


def test_trace_of_both_forms(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text('# seconds\n2.5\n\n{"at": 1, "max_tokens": 7}\n{"at": 1.5, "prompt": "hi"}\n')
    assert load_trace(file) == [Arrival(1.0, 7), Arrival(1.5, None, "hi"), Arrival(2.5)]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("soon", "expected seconds"),
        ("-1", "at must be"),
        ("NaN", "at must be"),
        ("true", "at must be"),
        ("{}", "at must be"),
        ('{"at": 1, "max_tokens": 0}', "max_tokens"),
        ('{"at": 1, "max_tokens": true}', "max_tokens"),
        ('{"at": 1, "prompt": 3}', "prompt"),
        ('{"at": 1, "tokens": 3}', "unknown field tokens"),
    ],
)
def test_trace_errors_name_file_line_and_field(tmp_path: Path, line: str, named: str) -> None:
    file = tmp_path / "trace"
    file.write_text(f"1\n# two\n{line}\n")
    with pytest.raises(ValueError, match=f"trace:3: .*{named}"):
        load_trace(file)


def test_a_trace_without_arrivals_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("# none\n")
    with pytest.raises(ValueError, match="no arrivals"):
        load_trace(tmp_path / "trace")


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 100))
def test_shares_of_a_closed_loop_add_up(concurrency: int, processes: int, requests: int) -> None:
    plan = Plan(TARGET, ("a",), concurrency=concurrency, requests=requests)
    parts = shares(plan, processes)
    assert sum(part.concurrency or 0 for part in parts) == concurrency
    assert sum(part.requests or 0 for part in parts) == requests
    assert all(part.concurrency and part.requests for part in parts)


@settings(deadline=None)
@given(st.floats(0.1, 50), st.integers(1, 5))
def test_shares_of_an_open_loop_add_up_to_the_arrivals_and_a_warm_up(rate: float, processes: int) -> None:
    plan = Plan(TARGET, ("a",), rate=rate, seconds=10.0, warmup_s=2.0)
    parts = shares(plan, processes)
    found = sorted(each.at for part in parts for each in part.arrivals or ())
    assert [at for at in found if at >= 0] == [each.at for each in poisson(rate, 10.0, 0)]
    assert all(-2.0 <= at < 10.0 for at in found)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"concurrency": 1, "rate": 1.0, "seconds": 1.0},
        {"concurrency": 1},
        {"concurrency": 1, "seconds": 1.0, "requests": 1},
        {"concurrency": 0, "seconds": 1.0},
        {"rate": 1.0},
    ],
)
def test_a_plan_must_say_one_thing(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"exactly one|needs|at least"):
        Plan(TARGET, ("a",), **wrong)  # type: ignore[arg-type]


async def test_the_alarm_never_rings_early_and_does_ring_for_the_past() -> None:
    alarm = Alarm()
    for ahead in (0.03, 0.0, -5.0, 0.001):
        at = monotonic() + ahead
        await asyncio.wait_for(alarm.until(at), 60)
        assert monotonic() >= at
    alarm.close()

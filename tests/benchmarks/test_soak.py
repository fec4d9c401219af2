"""The soak tells what an outage explains from what it does not, and growth from scatter."""

from __future__ import annotations

import httpx
import pytest

from benchmarks.crash.faults import Outage
from benchmarks.soak.census import Count, Group, left_behind, slope
from benchmarks.soak.traffic import WARM, Unanswered, Wrong, outcome, succeeded
from benchmarks.soak.verdict import GRACE_S, Failure, Tally


def failure(began: float, ended: float, *, endpoint: str = "a", explainable: bool = True) -> Failure:
    return Failure("chat", endpoint, WARM, "503", explainable, began, ended)


@pytest.mark.parametrize(
    ("outage", "explains"),
    [
        (Outage("edge", 9.0, 11.0), True),
        (Outage("edge", 15.0 + GRACE_S - 0.1, 20.0), True),
        (Outage("edge", 15.0 + GRACE_S + 0.1, 20.0), False),
        (Outage("edge", 1.0, 10.0 - GRACE_S - 0.1), False),
        (Outage("door", 9.0, 11.0), False),
        (Outage("replica", 9.0, 11.0, "a"), True),
        (Outage("replica", 9.0, 11.0, "b"), False),
    ],
    ids=["while away", "just before", "long before", "long after", "another part", "its endpoint", "another endpoint"],
)
def test_an_outage_explains_what_it_could_have_cut_off(outage: Outage, explains: bool) -> None:
    tally = Tally()
    tally.failed(failure(10.0, 15.0))
    assert (tally.unexplained([outage]) == []) is explains
    assert tally.explained([outage]).total() == explains


def test_nothing_explains_a_wrong_answer() -> None:
    tally = Tally()
    tally.failed(failure(10.0, 15.0, explainable=False))
    assert len(tally.unexplained([Outage("edge", 0.0, 100.0)])) == 1


@pytest.mark.parametrize(("status", "kind"), [(503, Unanswered), (429, Unanswered), (500, Wrong), (400, Wrong)])
def test_statuses(status: int, kind: type[Exception]) -> None:
    reply = httpx.Response(status, text="no", request=httpx.Request("POST", "http://h/"))

    def ask() -> None:
        succeeded(reply)

    assert isinstance(outcome(ask), kind)


def test_growth_is_seen_through_scatter() -> None:
    def count(minute: int, mib: float) -> Count:
        return Count(minute * 60.0, {"door": Group(1, 10, mib)})

    grows = [count(0, 50.0), *(count(minute, 100 + minute + minute % 2) for minute in range(1, 31))]
    assert slope(grows, "door") == pytest.approx(60, rel=0.1)
    flat = [count(minute, 100 + minute % 2) for minute in range(31)]
    assert slope(flat, "door") == pytest.approx(0, abs=3)
    assert slope(flat[:3], "door") is None


def test_what_is_left_behind_is_named() -> None:
    before = Count(0.0, {"door": Group(1, 40), "replica": Group(4, 400)})
    assert left_behind(before, Count(9.0, {"door": Group(1, 60), "replica": Group(4, 420)})) == []
    found = left_behind(before, Count(9.0, {"door": Group(1, 90), "replica": Group(5, 400)}))
    assert found == ["door: 90 open files, 40 at the start", "replica: 5 processes, 4 at the start"]

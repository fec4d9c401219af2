"""What a replica measured stays until somebody else has it."""

from __future__ import annotations

from server.metrics.periods import MAX_PENDING, PERIOD_S, Periods


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_period_travels_once_it_has_ended_and_until_it_was_delivered() -> None:
    clock = Clock()
    periods = Periods(clock)
    periods.record("Invocations", 1.0)
    clock.now += 5
    periods.record("Invocations", 1.0)
    assert periods.closed() == []
    clock.now += 5
    periods.record("Invocations", 1.0)
    first = periods.closed()
    assert [(each["start"], each["metrics"]["Invocations"][:2]) for each in first] == [(1000, [2.0, 2.0])]
    assert periods.closed() == first
    periods.delivered(first)
    assert periods.closed() == []
    assert [each["start"] for each in periods.closed(all_of_them=True)] == [1010]


def test_what_nobody_takes_does_not_pile_up() -> None:
    clock = Clock()
    periods = Periods(clock)
    for _ in range(MAX_PENDING + 50):
        periods.record("Invocations", 1.0)
        clock.now += PERIOD_S
    kept = periods.closed()
    assert len(kept) == MAX_PENDING
    assert kept[-1]["start"] == clock.now - PERIOD_S

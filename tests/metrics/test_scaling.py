"""Scaling decisions: examples in AWS's words, and what holds whatever the metrics say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.metrics.scaling import Bounds, Decision, Past, Policy, Step, Stepping, Suspended, Tracking, adjusted, decide

NOW = 100_000.0
FREE, AWAKE, ALWAYS = Bounds(1, 10), Suspended(), Past()


def tracking(*points: float | None, serving: int = 2, low_count: int = 3, **more: object) -> Tracking:
    base = Tracking("track", 10.0, 300.0, 300.0, False, points, 3, points, low_count, serving)
    return replace(base, **more)  # type: ignore[arg-type]


def stepping(beyond: float, *steps: Step, rising: bool = True, **more: object) -> Stepping:
    base = Stepping("step", "ChangeInCapacity", steps, 0, 300.0, beyond, rising)
    return replace(base, **more)  # type: ignore[arg-type]


def desired(current: int, *policies: Policy, past: Past = ALWAYS, bounds: Bounds = FREE) -> int:
    return decide(current, policies, past, bounds, AWAKE, NOW).desired


def test_a_load_of_twice_the_target_needs_twice_the_capacity() -> None:
    found = decide(2, [tracking(20.0, 20.0, 20.0)], ALWAYS, FREE, AWAKE, NOW)
    assert found == Decision(4, "track", "[20, 20, 20] above the target of 10 on 2")
    assert desired(2, tracking(20.0, 9.0, 20.0)) == 2  # not three in a row
    assert desired(2, tracking(20.0, 20.0)) == 2  # not three yet
    assert desired(2, tracking(None, 20.0, 20.0, 20.0, None)) == 4  # the newest may be late
    assert desired(4, tracking(4.0, 4.0, 4.0, serving=4)) == 2
    assert desired(4, tracking(9.5, 9.5, 9.5, serving=4)) == 4  # near enough
    assert desired(4, tracking(4.0, 8.0, 4.0, serving=4)) == 4  # the busiest of them counts: 3.2, so 4


def test_what_is_still_starting_is_not_asked_for_again() -> None:
    assert desired(4, tracking(20.0, 20.0, 20.0, serving=2)) == 4
    assert desired(4, tracking(30.0, 30.0, 30.0, serving=2)) == 6


def test_nothing_known_changes_nothing() -> None:
    assert desired(3, tracking()) == 3
    assert desired(3, tracking(None, None, None)) == 3
    assert desired(3) == 3


def test_no_load_at_all_reaches_zero_where_that_is_allowed() -> None:
    assert desired(1, tracking(0.0, 0.0, 0.0, serving=1), bounds=Bounds(0, 4)) == 0
    assert desired(1, tracking(0.0, 0.1, 0.0, serving=1), bounds=Bounds(0, 4)) == 1
    found = decide(1, [tracking(0.0, 0.0, 0.0, serving=1)], ALWAYS, FREE, AWAKE, NOW)
    assert (found.desired, found.not_scaled) == (1, "AlreadyAtMinCapacity")


def test_in_a_scale_out_cooldown_only_a_larger_one_goes_on() -> None:
    past = Past(scaled_out=NOW - 100, before_out=2)
    assert desired(4, tracking(20.0, 20.0, 20.0, serving=2), past=past) == 4
    assert desired(4, tracking(30.0, 30.0, 30.0, serving=2), past=past) == 6
    assert desired(4, tracking(12.0, 12.0, 12.0, serving=4), past=past) == 4  # one more is less than two
    assert desired(4, tracking(18.0, 18.0, 18.0, serving=4), past=past) == 6  # four more: two beyond those two
    assert desired(4, tracking(12.0, 12.0, 12.0, serving=4), past=replace(past, scaled_out=NOW - 300)) == 5


def test_a_scale_in_waits_for_the_last_change() -> None:
    idle = tracking(1.0, 1.0, 1.0, serving=4)
    assert desired(4, idle, past=Past(scaled_in=NOW - 299)) == 4
    assert desired(4, idle, past=Past(scaled_out=NOW - 299)) == 4
    assert desired(4, idle, past=Past(NOW - 300, NOW - 300)) == 1
    assert desired(4, replace(idle, disable_scale_in=True)) == 4


def test_all_that_track_must_agree_to_scale_in_and_one_is_enough_to_scale_out() -> None:
    low, content = tracking(1.0, 1.0, 1.0, serving=4), tracking(9.5, 9.5, 9.5, serving=4, name="other")
    lower, silent = tracking(6.0, 6.0, 6.0, serving=4, name="other"), tracking(serving=4, name="other")
    assert desired(4, low, content) == 4
    assert desired(4, low, lower) == 3
    assert desired(4, low, silent) == 4
    assert desired(4, low, replace(content, disable_scale_in=True)) == 1
    assert desired(4, low, tracking(15.0, 15.0, 15.0, serving=4, name="other")) == 6


def test_a_suspended_direction_stays() -> None:
    up, down = tracking(20.0, 20.0, 20.0), tracking(1.0, 1.0, 1.0)
    assert decide(2, [up], ALWAYS, FREE, Suspended(scale_out=True), NOW).desired == 2
    assert decide(2, [up], ALWAYS, FREE, Suspended(scale_in=True), NOW).desired == 4
    assert decide(2, [down], ALWAYS, FREE, Suspended(scale_in=True), NOW).desired == 2


UPWARD = (Step(0.0, 10.0, 1), Step(10.0, None, 3))
DOWNWARD = (Step(-10.0, 0.0, -1), Step(None, -10.0, -2))


@pytest.mark.parametrize(
    ("beyond", "steps", "rising", "expected"),
    [
        (0.0, UPWARD, True, 6), (9.9, UPWARD, True, 6), (10.0, UPWARD, True, 8), (-1.0, UPWARD, True, 5),
        (0.0, DOWNWARD, False, 4), (-9.9, DOWNWARD, False, 4), (-10.0, DOWNWARD, False, 3), (1.0, DOWNWARD, False, 5),
    ],
)  # fmt: skip
def test_steps(beyond: float, steps: Sequence[Step], rising: bool, expected: int) -> None:
    assert desired(5, stepping(beyond, *steps, rising=rising)) == expected


@pytest.mark.parametrize(
    ("current", "kind", "adjustment", "least", "expected"),
    [
        (4, "PercentChangeInCapacity", 25, 0, 5), (4, "PercentChangeInCapacity", 25, 2, 6),
        (10, "PercentChangeInCapacity", 19, 0, 11), (2, "PercentChangeInCapacity", 10, 0, 3),
        (10, "PercentChangeInCapacity", -25, 0, 8), (10, "PercentChangeInCapacity", -200, 0, 0),
        (3, "ExactCapacity", 7, 0, 7), (3, "ChangeInCapacity", -5, 0, 0), (0, "ChangeInCapacity", 1, 0, 1),
    ],
)  # fmt: skip
def test_adjustments(current: int, kind: str, adjustment: int, least: int, expected: int) -> None:
    assert adjusted(current, kind, adjustment, least) == expected  # type: ignore[arg-type]


def test_steps_and_their_cooldown() -> None:
    past = Past(scaled_out=NOW - 10, before_out=5)
    assert desired(6, stepping(1.0, *UPWARD), past=past) == 6
    assert desired(6, stepping(11.0, *UPWARD), past=past) == 8
    assert desired(6, stepping(1.0, *UPWARD), past=replace(past, scaled_out=NOW - 300)) == 7
    assert desired(6, stepping(-1.0, *DOWNWARD, rising=False), past=past) == 6
    full = decide(10, [stepping(11.0, *UPWARD)], ALWAYS, FREE, AWAKE, NOW)
    assert (full.desired, full.not_scaled) == (10, "AlreadyAtMaxCapacity")
    assert desired(5, stepping(1.0, *UPWARD), stepping(11.0, *UPWARD, name="more")) == 8


POINTS = st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=8).map(tuple)
COOLDOWNS = st.floats(0, 1000)
PASTS = st.builds(
    Past, st.none() | st.floats(NOW - 2000, NOW), st.none() | st.floats(NOW - 2000, NOW), st.none() | st.integers(0, 9)
)
BOUNDS = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: Bounds(min(pair), max(pair)))
TRACKINGS = st.builds(
    Tracking, st.sampled_from(["a", "b"]), st.floats(0.01, 1e4), COOLDOWNS, COOLDOWNS, st.booleans(), POINTS,
    st.integers(1, 3), POINTS, st.integers(1, 5), st.integers(0, 60),
)  # fmt: skip
STEPS = st.lists(st.integers(-100, 100), min_size=1, max_size=3).map(
    lambda found: tuple(Step(10.0 * n, 10.0 * (n + 1), each) for n, each in enumerate(found))
)
STEPPINGS = st.builds(
    Stepping, st.just("s"), st.sampled_from(["ChangeInCapacity", "PercentChangeInCapacity"]), STEPS,
    st.integers(0, 5), COOLDOWNS, st.floats(0, 40), st.booleans(),
)  # fmt: skip
POLICIES = st.lists(st.one_of(TRACKINGS, STEPPINGS), max_size=4)
SUSPENDED = st.builds(Suspended, st.booleans(), st.booleans())


@given(st.integers(0, 60), POLICIES, PASTS, BOUNDS, SUSPENDED)
def test_never_outside_the_bounds(
    current: int, policies: list[Policy], past: Past, bounds: Bounds, suspended: Suspended
) -> None:
    found = decide(current, policies, past, bounds, suspended, NOW)
    assert bounds.minimum <= found.desired <= bounds.maximum
    if bounds.clamp(current) == current:
        assert not (suspended.scale_out and found.desired > current)
        assert not (suspended.scale_in and found.desired < current)
        assert found.desired == current or found.policy in {policy.name for policy in policies}


@given(st.integers(1, 50), POLICIES, st.floats(0, 999), st.booleans())
def test_never_scales_in_during_a_cooldown(current: int, policies: list[Policy], ago: float, outward: bool) -> None:
    past = Past(scaled_out=NOW - ago, before_out=0) if outward else Past(scaled_in=NOW - ago)
    cooling = [
        replace(policy, in_cooldown_s=1000.0) if isinstance(policy, Tracking) else replace(policy, cooldown_s=1000.0)
        for policy in policies
    ]
    assert decide(current, cooling, past, Bounds(0, 100), AWAKE, NOW).desired >= current


@given(st.integers(0, 50), TRACKINGS, PASTS, st.floats(1.0, 100.0), BOUNDS)
def test_more_load_never_means_less_capacity(
    current: int, policy: Tracking, past: Past, factor: float, bounds: Bounds
) -> None:
    def times(points: Sequence[float | None]) -> tuple[float | None, ...]:
        return tuple(None if point is None else point * factor for point in points)

    one = replace(policy, low=policy.high)
    more = replace(one, high=times(one.high), low=times(one.low))
    least = decide(current, [one], past, bounds, AWAKE, NOW).desired
    assert decide(current, [more], past, bounds, AWAKE, NOW).desired >= least

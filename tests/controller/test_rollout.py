"""The rollout's steps, on worlds in which replicas come, go and fail, and alarms ring when they like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.controller.rollout import ENDED, FORWARD, Fleet, Progress, Sight, begin, replicas, step
from server.spec import Strategy

CANARY = Strategy(shares=(0.25, 1.0), bake_s=60, termination_wait_s=30, timeout_s=900, alarms=("errors", "latency"))
LINEAR = Strategy(shares=(0.3, 0.6, 0.9, 1.0), bake_s=10, alarms=("errors",))
ROLLING = Strategy(shares=(0.25, 0.5, 0.75, 1.0), rolling=True, rollback_step=0.5, bake_s=10, alarms=("errors",))
AT_ONCE = Strategy(alarms=("errors",))
EVERY = [CANARY, LINEAR, ROLLING, AT_ONCE]
SIZE = 4


def seen(now: float, blue: int = SIZE, green: int = SIZE, *alarms: str, failure: str | None = None) -> Sight:
    return Sight(now, (Fleet(SIZE, blue),), (Fleet(SIZE, green),), frozenset(alarms), failure)


@dataclass
class World:
    """Two fleets that become what they are wanted to be, and a clock."""

    strategy: Strategy
    progress: Progress
    now: float = 0.0

    @classmethod
    def of(cls, strategy: Strategy) -> World:
        return cls(strategy, begin(strategy, 0.0))

    @property
    def blue(self) -> int:
        return replicas(SIZE, self.progress.blue(self.strategy))

    @property
    def green(self) -> int:
        return replicas(SIZE, self.progress.green(self.strategy))

    def go(self, *alarms: str, seconds: float = 1.0) -> Progress:
        self.now += seconds
        self.progress = step(self.progress, self.strategy, 0.0, seen(self.now, self.blue, self.green, *alarms))
        return self.progress


def history(world: World, limit: int = 2000) -> list[tuple[str, float]]:
    """Every stage and share it goes through until it ends."""
    passed: list[tuple[str, float]] = [(world.progress.stage, world.progress.share)]
    for _ in range(limit):
        world.go()
        if passed[-1] != (world.progress.stage, world.progress.share):
            passed.append((world.progress.stage, world.progress.share))
        if world.progress.stage in ENDED:
            return passed
    raise AssertionError(passed)


def test_a_canary_goes_in_two_steps_with_a_wait_after_each() -> None:
    world = World.of(CANARY)
    assert history(world) == [
        ("creating", 0.0), ("baking", 0.25), ("creating", 0.25), ("baking", 1.0), ("terminating", 1.0),
        ("finished", 1.0),
    ]  # fmt: skip
    assert world.now == pytest.approx(2 * 60 + 30, abs=5)


def test_a_linear_one_takes_every_step() -> None:
    shares = [share for stage, share in history(World.of(LINEAR)) if stage == "baking"]
    assert shares == [0.3, 0.6, 0.9, 1.0]


def test_a_rolling_one_never_runs_more_than_a_batch_too_many() -> None:
    world = World.of(ROLLING)
    fleets = set()
    while world.progress.stage not in ENDED:
        fleets.add((world.blue, world.green))
        world.go()
    assert fleets == {(4, 1), (3, 2), (2, 3), (1, 4)}


def test_green_gets_nothing_before_its_replicas_are_ready() -> None:
    waiting = begin(CANARY, 0.0)
    assert step(waiting, CANARY, 0.0, seen(1, green=SIZE - 1)) == waiting
    assert step(waiting, CANARY, 0.0, seen(1)).share == 0.25


@pytest.mark.parametrize("strategy", EVERY)
def test_an_alarm_in_any_state_brings_everything_back(strategy: Strategy) -> None:
    states: list[Progress] = []
    world = World.of(strategy)
    while world.progress.stage in FORWARD:
        states.append(world.progress)
        world.go(seconds=1.0)
    for state in states:
        world = World(strategy, state, state.since)
        turned = world.go("errors")
        assert (turned.stage, turned.share) == ("reverting", state.share)
        assert turned.reason == "alarm errors is in ALARM"
        shares = [share for _, share in history(world)]
        assert shares == sorted(shares, reverse=True)
        assert (world.progress.stage, world.progress.share) == ("reverted", 0.0)


def test_another_alarm_and_an_unknown_state_are_no_reason() -> None:
    world = World.of(CANARY)
    world.go("somebody-elses")
    assert world.progress.stage == "baking"


@pytest.mark.parametrize("strategy", [CANARY, ROLLING])
@pytest.mark.parametrize(
    ("sight", "words"),
    [(seen(600, green=0), "not ready within 600 s"), (seen(5, green=0, failure="variant a: no weights"), "no weights")],
)
def test_green_that_does_not_start_brings_it_back(strategy: Strategy, sight: Sight, words: str) -> None:
    turned = step(begin(strategy, 0.0), strategy, 0.0, sight)
    assert turned.stage == "reverting"
    assert words in str(turned.reason)
    assert step(turned, strategy, 0.0, sight).stage == "reverted", "no traffic has to move"


def test_the_whole_of_it_has_a_time_limit() -> None:
    world = World.of(CANARY)
    world.go()
    late = step(world.progress, CANARY, 0.0, replace(seen(900.0), green=(Fleet(SIZE, SIZE),)))
    assert late.stage == "reverting"
    assert late.reason == "the deployment took longer than MaximumExecutionTimeoutInSeconds (900)"


def test_a_rolling_rollback_waits_for_blues_replicas_and_says_when_they_do_not_come() -> None:
    state = Progress("baking", 0.0, low=0.75, high=1.0, share=1.0)
    turned = step(state, ROLLING, 0.0, seen(1, 1, 4, "errors"))
    assert (turned.low, turned.share) == (0.5, 1.0)
    assert step(turned, ROLLING, 0.0, seen(2, 1)) == turned
    assert step(turned, ROLLING, 0.0, seen(2, 2)).share == 0.5
    stuck = step(turned, ROLLING, 0.0, seen(601, 1))
    assert stuck.stage == "stuck"
    assert step(stuck, ROLLING, 0.0, seen(9000, 1)) == stuck
    assert step(stuck, ROLLING, 0.0, seen(9001, 2)).share == 0.5, "it goes on when they do come"


def test_blue_green_goes_back_even_to_a_blue_that_lost_a_replica() -> None:
    turned = step(replace(begin(CANARY, 0.0), stage="baking", share=0.25), CANARY, 0.0, seen(1, 3, 4, "errors"))
    back = step(turned, CANARY, 0.0, seen(2, 3))
    assert (back.stage, back.share) == ("reverting", 0.0)
    assert step(back, CANARY, 0.0, seen(3, 3)).stage == "reverted"
    assert step(turned, CANARY, 0.0, seen(2, 0)) == turned


@st.composite
def strategies(draw: st.DrawFn) -> Strategy:
    parts = draw(st.lists(st.floats(0.05, 0.5), min_size=1, max_size=8))
    rising = [share for share in accumulate(parts) if share < 0.99]
    return Strategy(
        shares=(*rising, 1.0), rolling=draw(st.booleans()), rollback_step=draw(st.floats(0.05, 1.0)),
        bake_s=draw(st.sampled_from([0.0, 3.0])), termination_wait_s=draw(st.sampled_from([0.0, 2.0])),
        timeout_s=draw(st.none() | st.just(600.0)), alarms=("errors",),
    )  # fmt: skip


def start(fleet: int, wanted: int, luck: int) -> int:
    """A fleet after one second: surplus goes at once, what is missing comes if it is lucky."""
    return wanted if fleet >= wanted else min(wanted, fleet + luck)


@settings(max_examples=300)
@given(strategies(), st.integers(1, 9), st.integers(1, 9), st.none() | st.integers(0, 60), st.data())
def test_whatever_happens_somebody_ready_gets_the_traffic(
    strategy: Strategy, blue_size: int, green_size: int, rings: int | None, data: st.DataObject
) -> None:
    progress, blue, green = begin(strategy, 0.0), blue_size, 0
    for now in range(1, 400):
        luck = st.integers(0, 2) if now < 80 else st.just(9)
        blue = start(blue, replicas(blue_size, progress.blue(strategy)), data.draw(luck))
        green = start(green, replicas(green_size, progress.green(strategy)), data.draw(luck))
        alarms = frozenset(["errors"] if rings is not None and now >= rings else [])
        sight = Sight(now, (Fleet(blue_size, blue),), (Fleet(green_size, green),), alarms)
        after = step(progress, strategy, 0.0, sight)
        assert 0 <= after.low <= after.share <= after.high <= 1
        assert after.share in (after.low, after.high)
        assert (1 - after.share) * 1e9 < 1 or blue > 0, "blue's part of the traffic has replicas"
        assert after.share * 1e9 < 1 or green > 0, "and so has green's"
        if progress.reason is not None:
            assert after.reason == progress.reason
            assert after.stage not in (*FORWARD, "finished"), "there is no way forward any more"
            assert after.share <= progress.share
        elif after.reason is None:
            assert after.share >= progress.share, "without trouble it only goes on"
            assert rings is None or now < rings, "an alarm is heard at once"
        progress = after
        if progress.stage in ENDED:
            break
    assert progress.stage == ("finished" if progress.reason is None else "reverted")
    assert progress.share == (1.0 if progress.reason is None else 0.0)
    assert rings is not None or progress.reason is None

"""How the controller divides an account's rates: never more than the quota, whatever is lost or late."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.beat import LEASE_S, Report, Usage
from server.controller.rates import Division, Rates, filling
from server.guard import rates as replica
from server.guard.rates import OverRate
from server.store import quotas
from server.store.migrate import migrate
from server.store.quotas import REQUESTS, TOKENS, Defaults
from server.store.store import Store, connect

ACCOUNT = "123456789012"
NAMES = ("a", "b", "c")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 100), min_size=1), st.floats(0, 200))
def test_filling_is_max_min_fair(wanted: dict[str, float], amount: float) -> None:
    found = filling(wanted, amount)
    assert sum(found.values()) <= amount + 1e-6
    assert all(found[id] <= want + 1e-9 for id, want in wanted.items())
    assert sum(found.values()) >= min(amount, sum(wanted.values())) - 1e-6
    short = [found[id] for id, want in wanted.items() if found[id] < want - 1e-6]
    assert all(value >= max(found.values()) - 1e-6 for value in short)  # who lacks has as much as anybody


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.floats(0, 100), st.sampled_from(("told", "told", "lost", "quota")),
                  st.floats(0, 1.5), st.floats(0, 50)),
        max_size=80,
    )
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_the_sum_of_what_replicas_go_by(history: list[tuple[str, float, str, float, float]]) -> None:
    clock, rate = Clock(), 10.0
    division = Division(clock)
    held = dict.fromkeys(NAMES, 0.0)
    """What each goes by, heard or not."""
    heard = dict.fromkeys(NAMES, 0.0)
    most = rate
    for name, wanted, what, passed, other in history:
        clock.now += passed
        for each in NAMES:  # who is not heard for a lease is off the routes
            if clock.now - heard[each] > LEASE_S:
                held[each] = 0.0
        if what == "quota":
            rate = other
        share = division.share(name, Usage(held[name], wanted), rate)
        heard[name] = clock.now
        if what == "told":
            held[name] = share
        most = max(rate, min(most, sum(held.values())))
        assert sum(held.values()) <= max(most, rate) + 1e-6


def test_shares_follow_the_demand_within_two_beats() -> None:
    clock = Clock()
    division = Division(clock)
    held = dict.fromkeys(NAMES, 0.0)

    def beat(**wanted: float) -> None:
        clock.now += 1
        for name in NAMES:
            held[name] = division.share(name, Usage(held[name], wanted.get(name, 0.0)), 30.0)

    for _ in range(4):
        beat()
    assert all(value == pytest.approx(10.0) for value in held.values())
    for _ in range(3):
        beat(a=1000.0)
    assert held["a"] >= 0.9 * 30
    assert min(held.values()) >= 0.1 * 30 / 3 - 1e-6  # an idle one can begin
    for _ in range(3):
        beat(a=1000.0, b=1000.0)
    assert held["a"] == pytest.approx(held["b"])
    assert sum(held.values()) == pytest.approx(30.0)


class World:
    """A store, a controller's rates, and replicas that beat to it in memory."""

    def __init__(self, folder: Path) -> None:
        engine = connect(f"sqlite:///{folder / 'hearth.db'}")
        migrate(engine)
        self.store = Store(engine, ACCOUNT, "us-east-1")
        self.clock = Clock()
        self.rates = Rates(self.store, Defaults(), self.clock)
        self.replicas: dict[str, replica.Rates] = {}
        self.used = 0

    def start(self, name: str, **more: Any) -> replica.Rates:
        self.replicas[name] = made = replica.Rates(clock=self.clock, **more)
        return made

    async def beat(self, seconds: float = 1.0) -> None:
        self.clock.now += seconds
        for name, each in self.replicas.items():
            wire = each.report(ACCOUNT).to_wire()
            each.learn(await self.rates.answer(name, Report.from_wire(wire)))

    def ask(self, name: str, times: int) -> int:
        count = 0
        for _ in range(times):
            try:
                self.replicas[name].admit()
                count += 1
            except OverRate:
                continue
        return count


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    yield made
    made.store.engine.dispose()


async def test_without_a_quota_all_is_known_at_once(world: World) -> None:
    one = world.start("one")
    await world.beat(0.0)
    assert (one.known, one.limited) == (True, False)
    quotas.put(world.store, ACCOUNT, REQUESTS, 5)
    world.clock.now += LEASE_S
    await world.beat()
    assert one.limited
    quotas.put(world.store, ACCOUNT, REQUESTS, None)
    await world.beat()
    assert not one.limited


@pytest.mark.parametrize("split", [(1.0, 0.0, 0.0), (0.8, 0.1, 0.1), (0.34, 0.33, 0.33)], ids=str)
async def test_replicas_together_let_in_what_the_account_may_have(world: World, split: tuple[float, ...]) -> None:
    """Offered three times the quota for 30 s: never above it by more than a second's worth and one for each replica,
    and not below nine tenths of it once the shares follow the demand."""
    quotas.put(world.store, ACCOUNT, REQUESTS, 40)
    for name in NAMES:
        world.start(name)
    await world.beat(LEASE_S + 1)
    await world.beat()
    let_in = [0]
    for _ in range(30):
        count = 0
        for _ in range(10):
            world.clock.now += 0.1
            count += sum(world.ask(name, round(12 * part)) for name, part in zip(NAMES, split, strict=True))
        let_in.append(count)
        await world.beat(0.0)
    for begin in range(len(let_in)):
        for end in range(begin + 1, len(let_in)):
            assert sum(let_in[begin + 1 : end + 1]) <= 40 * (end - begin) + 40 + len(NAMES)
    assert sum(let_in[6:]) >= 0.85 * 40 * len(let_in[6:])


async def test_a_controller_that_starts_anew_waits_for_those_that_it_does_not_know(world: World) -> None:
    quotas.put(world.store, ACCOUNT, REQUESTS, 10)
    old = world.start("old")
    await world.beat(LEASE_S + 1)
    await world.beat()
    assert old.report(ACCOUNT).usages["requests"].held == 10
    world.rates = Rates(world.store, Defaults(), world.clock)  # as after a kill -9
    new = world.start("new")
    del world.replicas["old"]  # not heard yet, and going by all of it
    await world.beat()
    assert not new.known
    world.replicas["old"] = old
    for _ in range(4):
        await world.beat()
        assert sum(each.report(ACCOUNT).usages["requests"].held or 0 for each in (old, new)) <= 10
    for _ in range(4):
        await world.beat()
    shares = [each.report(ACCOUNT).usages["requests"].held for each in (old, new)]
    assert shares == [pytest.approx(5.0)] * 2


async def test_late_reports_and_a_store_that_is_away(world: World) -> None:
    quotas.put(world.store, ACCOUNT, TOKENS, 600)
    world.clock.now += LEASE_S + 1
    usages = {"requests": Usage(None, 0.0), "tokens": Usage(0.0, 5.0)}
    answer = await world.rates.answer("r", Report(ACCOUNT, 2, usages))
    assert answer == {"requests": None, "tokens": {"limit": 600, "share": pytest.approx(10.0)}}
    assert await world.rates.answer("r", Report(ACCOUNT, 1, usages)) is None
    world.store.engine.dispose()
    moved = Rates(Store(connect("sqlite:////nowhere/hearth.db"), ACCOUNT, "us-east-1"), Defaults(), world.clock)
    assert await moved.answer("r", Report(ACCOUNT, 3, usages)) is None


async def test_tokens_of_several_replicas(world: World) -> None:
    """Tokens are owed, so what is over in one minute is paid back in the next: over ten minutes it is the quota."""
    quotas.put(world.store, ACCOUNT, TOKENS, 6000)
    used = dict.fromkeys(NAMES, 0)
    for name in NAMES:
        world.start(name, tokens=lambda name=name: used[name])
    await world.beat(LEASE_S + 1)
    await world.beat()
    for _ in range(600):
        await world.beat()
        for name, many in (("a", 20), ("b", 2)):
            used[name] += 50 * world.ask(name, many)
    total = sum(used.values())
    assert 0.85 * 60_000 <= total <= 60_000 + 6000 + 20 * 50 * 2
    await asyncio.sleep(0)

"""Many models in bounded memory: loaded once, the least recently used out, never one that is answering."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import ModelFailed, NoSuchModel, NotReady, Unavailable
from server.replicas.many.shelf import Shelf
from tests.replicas.many.fakes import World

NAMES = "abcdef"


async def ask(shelf: Shelf, *names: str) -> None:
    for name in names:
        shelf.give_back(await shelf.take(name), answered=True)


async def settled(world: World) -> None:
    """Waits until nothing is being done beside the requests."""
    while world.shelf._tasks:
        await asyncio.wait(set(world.shelf._tasks))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=6, max_size=6),
    most=st.integers(40, 100),
    models=st.integers(1, 4),
    loads=st.integers(1, 3),
    clients=st.lists(st.lists(st.sampled_from(NAMES), max_size=6), min_size=1, max_size=5),
    pauses=st.integers(0, 2),
    keep=st.booleans(),
)
def test_bounds_are_never_exceeded(
    sizes: list[int], most: int, models: int, loads: int, clients: list[list[str]], pauses: int, keep: bool
) -> None:
    async def run() -> World:
        world = World(dict(zip(NAMES, sizes, strict=True)), most=most, models=models, loads=loads, keep=keep)
        world.pauses = pauses

        async def client(names: list[str]) -> None:
            for name in names:
                model = await world.shelf.take(name)
                assert model.loaded in world.inside
                assert model.name == name
                await world.pause()
                assert model.loaded in world.inside
                world.shelf.give_back(model, answered=True)

        await asyncio.gather(*map(client, clients))
        await settled(world)
        if not keep:
            assert not world.inside
        await world.shelf.stop()
        assert not world.inside
        assert not +world.pins
        assert world.space.count == 0
        return world

    world = asyncio.run(run())
    assert world.highest <= most
    assert world.most_models <= models
    assert world.most_loading <= loads
    assert world.loads.total() <= sum(map(len, clients))


async def test_a_cold_model_is_loaded_once_for_all_who_ask() -> None:
    world = World({"a": 1})
    world.gate.clear()
    asking = [asyncio.create_task(world.shelf.take("a")) for _ in range(20)]
    while not world.loads["a"]:  # noqa: ASYNC110 - the load has no event
        await asyncio.sleep(0)
    world.gate.set()
    models = await asyncio.gather(*asking)
    assert len(set(map(id, models))) == 1
    assert models[0].holds == 20
    assert world.loads == {"a": 1}


async def test_cold_models_load_beside_one_another() -> None:
    world = World(dict.fromkeys(NAMES, 1), loads=3)
    world.gate.clear()
    asking = [asyncio.create_task(ask(world.shelf, name)) for name in NAMES]
    while world.loading.total() < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    world.gate.set()
    await asyncio.gather(*asking)
    assert world.most_loading == 3


async def test_the_least_recently_used_goes() -> None:
    world = World(dict.fromkeys(NAMES, 10), most=30)
    await ask(world.shelf, "a", "b", "c", "a", "d")
    assert world.shelf.names == ["c", "a", "d"]
    await ask(world.shelf, "b")
    assert world.shelf.names == ["a", "d", "b"]
    assert world.loads["b"] == 2


async def test_only_as_many_go_as_must() -> None:
    world = World({"a": 10, "b": 10, "c": 10, "d": 15}, most=30)
    await ask(world.shelf, "a", "b", "c", "d")
    assert world.shelf.names == ["c", "d"]


async def test_one_that_answers_stays() -> None:
    world = World(dict.fromkeys(NAMES, 10), most=20)
    held = await world.shelf.take("a")
    await ask(world.shelf, "b", "c")
    assert world.shelf.names == ["a", "c"]
    world.shelf.give_back(held)


async def test_all_answer_and_none_has_room() -> None:
    world = World(dict.fromkeys(NAMES, 10), most=20, wait_s=0.05)
    held = [await world.shelf.take(name) for name in "ab"]
    with pytest.raises(NotReady, match=r"Model c is not ready"):
        await world.shelf.take("c")
    await settled(world)
    assert (world.loads["c"], +world.pins) == (0, {("a", "1"): 1, ("b", "1"): 1})
    world.shelf.give_back(held[0])
    await ask(world.shelf, "c")
    assert world.shelf.names == ["b", "c"]


async def test_room_is_waited_for() -> None:
    world = World(dict.fromkeys(NAMES, 10), most=20)
    held = [await world.shelf.take(name) for name in "ab"]
    waiting = asyncio.create_task(ask(world.shelf, "c"))
    while not world.pins["c", "1"]:  # noqa: ASYNC110
        await asyncio.sleep(0)
    world.shelf.give_back(held[1])
    await waiting
    assert world.shelf.names == ["a", "c"]


async def test_a_slow_load_goes_on_after_its_client_was_told() -> None:
    world = World({"a": 1}, wait_s=0.01)
    world.gate.clear()
    with pytest.raises(NotReady, match="still being downloaded or loaded"):
        await world.shelf.take("a")
    world.gate.set()
    await settled(world)
    await ask(world.shelf, "a")
    assert world.loads == {"a": 1}


async def test_a_client_that_leaves_does_not_end_the_load() -> None:
    world = World({"a": 1})
    world.gate.clear()
    asking = asyncio.create_task(world.shelf.take("a"))
    while not world.loads["a"]:  # noqa: ASYNC110
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    world.gate.set()
    await settled(world)
    (model,) = world.shelf._ready.values()
    assert model.holds == 0


async def test_nothing_is_kept_of_what_cannot_be_loaded() -> None:
    world = World({"a": 1})
    world.broken.add("a")
    for _ in range(2):
        with pytest.raises(ModelFailed, match="model a could not be loaded: it is broken"):
            await world.shelf.take("a")
    with pytest.raises(NoSuchModel):
        await world.shelf.take("z")
    assert world.loads == {"a": 2}
    assert (world.shelf.names, world.space.count, +world.pins) == ([], 0, {})
    world.broken.clear()
    await ask(world.shelf, "a")


async def test_one_that_is_larger_than_all_may_be() -> None:
    world = World({"a": 10, "b": 31 * 2**20}, most=30 * 2**20)
    await ask(world.shelf, "a")
    with pytest.raises(ModelFailed, match="model b needs 31 MiB for its memory; all models may have 30 MiB") as caught:
        await world.shelf.take("b")
    assert caught.value.status == 507
    assert world.shelf.names == ["a"]


async def test_one_that_was_larger_than_its_files_said() -> None:
    """Its neighbours go once it is known."""
    world = World({"a": 10, "b": 10, "c": 10}, most=30)
    await ask(world.shelf, "a", "b")
    world.estimate = lambda folder: type(World.estimate(world, folder))("fake", 1)  # type: ignore[method-assign]
    world.sizes["c"] = 25
    await ask(world.shelf, "c")
    await settled(world)
    assert world.shelf.names == ["c"]


async def test_a_replaced_model_is_loaded_anew() -> None:
    world = World({"a": 1}, check_s=0.0)
    held = await world.shelf.take("a")
    world.versions["a"] = "2"
    assert await world.shelf.take("a") is held  # found out beside this request
    world.shelf.give_back(held)
    await settled(world)
    new = await world.shelf.take("a")
    assert (held.version, new.version) == ("1", "2")
    assert held.loaded in world.inside
    world.shelf.give_back(held)
    world.shelf.give_back(new)
    await settled(world)
    assert [each.name for each in world.inside] == ["a"]


async def test_a_removed_model_answers_no_more() -> None:
    world = World({"a": 1}, check_s=0.0)
    await ask(world.shelf, "a")
    del world.versions["a"]
    await ask(world.shelf, "a")
    await settled(world)
    with pytest.raises(NoSuchModel):
        await world.shelf.take("a")
    assert not world.inside


async def test_a_dead_model_is_loaded_anew() -> None:
    world = World({"a": 1})
    model = await world.shelf.take("a")
    world.shelf.give_back(model)
    (loaded,) = world.inside
    loaded.dead = True
    assert (await world.shelf.take("a")) is not model
    await settled(world)
    assert loaded not in world.inside


async def test_without_a_cache_a_model_goes_when_it_has_answered() -> None:
    world = World({"a": 1}, keep=False)
    first, second = await world.shelf.take("a"), await world.shelf.take("a")
    assert first is second
    world.shelf.give_back(first, answered=True)
    assert world.shelf.names == ["a"]
    world.shelf.give_back(second, answered=True)
    await settled(world)
    assert (world.shelf.names, world.dropped, world.inside) == ([], ["a"], set())


async def test_without_a_cache_a_model_that_came_too_late_waits_for_its_client() -> None:
    world = World({"a": 1}, keep=False, wait_s=0.01)
    world.gate.clear()
    with pytest.raises(NotReady):
        await world.shelf.take("a")
    world.gate.set()
    await settled(world)
    await ask(world.shelf, "a")
    assert world.loads == {"a": 1}


async def test_stopping_ends_loads_and_refuses_more() -> None:
    world = World({"a": 1, "b": 1})
    await ask(world.shelf, "a")
    world.gate.clear()
    asking = asyncio.create_task(world.shelf.take("b"))
    while not world.loads["b"]:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await world.shelf.stop()
    with pytest.raises(Unavailable):
        await asking
    with pytest.raises(Unavailable):
        await world.shelf.take("a")
    assert not world.inside

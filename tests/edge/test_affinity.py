"""Strategies, sessions and prompts that stay with their replica, with a real HAProxy."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest

from server.control.service import Service
from server.edge.routes import Backend, RouteTable, Routing
from server.edge.runtime import running
from server.spec import RoutingStrategy
from tests.edge.conftest import Answerer, Client, Edge, eventually, variant

PATH = "/endpoints/a/invocations"
CHAT = "/endpoints/a/openai/v1/chat/completions"
SESSION = "X-Amzn-SageMaker-Session-Id"
SYSTEM = "You are patient. " * 40


def aware(*answerers: Answerer, length: int = 200, threshold: int = 16, name: str = "AllTraffic") -> Backend:
    routing = Routing("PREFIX_AWARE", length, threshold)
    return replace(variant("a", *answerers, name=name), routing=routing)


def replicas(edge: Edge, count: int) -> list[Answerer]:
    return [edge.replica(f"r{number}") for number in range(count)]


def asked(client: Client, path: str, bodies: Sequence[object], **headers: str) -> list[str]:
    return [client.post(path, body, {name.replace("_", "-"): value for name, value in headers.items()})["me"]
            for body in bodies]  # fmt: skip


def chat(system: str, said: str) -> dict[str, object]:
    return {"model": "a", "messages": [{"role": "system", "content": system}, {"role": "user", "content": said}]}


def test_the_strategies_are_words_of_the_service_model() -> None:
    enum = Service("sagemaker").model.shape_for("RoutingStrategy").enum
    assert set(get_args(RoutingStrategy)) == set(enum) - {"KV_AWARE"}


def test_a_table_comes_back_from_the_wire_as_it_was() -> None:
    table = RouteTable((Backend("a", "V", 1.0, (), 8, routing=Routing("PREFIX_AWARE", 2048, 3)),))
    assert RouteTable.from_wire(json.loads(json.dumps(table.to_wire()))) == table
    old = table.to_wire()
    del old["backends"][0]["routing"]
    assert RouteTable.from_wire(old).backends[0].routing == Routing()


def test_random_divides_evenly_and_not_in_turns(edge: Edge) -> None:
    edge.apply(replace(variant("a", *replicas(edge, 2)), routing=Routing("RANDOM")))
    found = asked(edge.http, PATH, [b""] * 400)
    assert 130 < found.count("r0") < 270
    assert sum(one == two for one, two in pairwise(found)) > 100


def test_the_least_outstanding_replica_is_chosen(edge: Edge) -> None:
    busy, idle = replicas(edge, 2)
    edge.apply(variant("a", busy))
    for _ in range(3):
        edge.connection().begin(f"{PATH}?sleep=60")
    eventually(lambda: busy.started[PATH] == 3)
    edge.apply(variant("a", busy, idle))
    assert set(asked(edge.http, PATH, [b""] * 6)) == {"r1"}


@pytest.mark.parametrize("header", [SESSION, "X-Session-Id"])
def test_a_session_stays_until_its_replica_goes(edge: Edge, header: str) -> None:
    all_four = replicas(edge, 4)
    edge.apply(variant("a", *all_four[:3]))
    homes = {name: edge.http.post(PATH, headers={header: name})["me"] for name in (f"s{n}" for n in range(12))}
    assert len(set(homes.values())) == 3
    for _ in range(3):
        assert {name: edge.http.post(PATH, headers={header: name})["me"] for name in homes} == homes
    edge.apply(variant("a", *all_four))
    assert {name: edge.http.post(PATH, headers={header: name})["me"] for name in homes} == homes
    edge.apply(variant("a", *all_four[1:]))
    after = {name: edge.http.post(PATH, headers={header: name})["me"] for name in homes}
    assert all(after[name] == home for name, home in homes.items() if home != "r0")
    assert "r0" not in after.values()
    assert {name: edge.http.post(PATH, headers={header: name})["me"] for name in homes} == after


def test_a_session_outlives_a_reload(edge: Edge) -> None:
    three = replicas(edge, 3)
    edge.apply(variant("a", *three))
    homes = {name: edge.http.post(PATH, headers={SESSION: name})["me"] for name in (f"s{n}" for n in range(9))}
    for number in range(3):
        assert edge.apply(variant("a", *three), variant(f"b{number}", three[0])) == "reload"
        client = edge.connection()
        assert {name: client.post(PATH, headers={SESSION: name})["me"] for name in homes} == homes


def test_a_session_whose_replica_died_goes_to_another(edge: Edge) -> None:
    pair = replicas(edge, 2)
    edge.apply(variant("a", *pair))
    home = edge.http.post(PATH, headers={SESSION: "s"})["me"]
    next(each for each in pair if each.name == home).close()
    other = {"r0": "r1", "r1": "r0"}[home]
    assert [edge.connection().post(PATH, headers={SESSION: "s"})["me"] for _ in range(4)] == [other] * 4


def test_a_session_that_woke_an_endpoint_is_not_the_doors(edge: Edge) -> None:
    edge.apply(variant("a"))
    assert edge.http.post(PATH, headers={SESSION: "s"})["me"] == "door"
    edge.apply(variant("a", edge.replica("r0")))
    assert edge.connection().post(PATH, headers={SESSION: "s"})["me"] == "r0"


def test_sessions_of_several_variants_stay_and_the_rest_follows_the_weights(edge: Edge) -> None:
    one, two = replicas(edge, 2)
    edge.apply(variant("a", one, name="A", weight=3), variant("a", two, name="B", weight=1))
    home = edge.http.post(PATH, headers={SESSION: "s"})["me"]
    assert asked(edge.http, PATH, [b""] * 8, **{SESSION: "s"}) == [home] * 8
    assert Counter(asked(edge.http, PATH, [b""] * 80)) == {"r0": 60, "r1": 20}


def test_prompts_that_begin_alike_go_to_one_replica_and_others_are_spread(edge: Edge) -> None:
    edge.apply(aware(*replicas(edge, 4)))
    homes = {}
    for number in range(8):
        system = f"{number} {SYSTEM}"
        (homes[number],) = set(asked(edge.http, CHAT, [chat(system, f"question {n}") for n in range(5)]))
    assert set(Counter(homes.values()).values()) == {2}


def test_what_comes_before_the_prompt_does_not_matter_and_keys_do(edge: Edge) -> None:
    edge.apply(aware(*replicas(edge, 4)))
    plain = chat(SYSTEM, "x")
    bodies = [{"temperature": n / 10, "note": 'say "messages": no', **plain, "max_tokens": n} for n in range(4)]
    assert len(set(asked(edge.http, CHAT, bodies))) == 1
    keyed = [{**plain, "prompt_cache_key": f"app {n}"} for n in range(4)]
    assert len(set(asked(edge.http, CHAT, keyed))) == 4
    inputs = [{"inputs": SYSTEM, "parameters": {"seed": n}} for n in range(3)]
    assert len(set(asked(edge.http, PATH, inputs))) == 1
    prefix = "X-Amzn-SageMaker-Prefix-Aware-Id"
    ids = [edge.http.post(PATH, inputs[0], {prefix: f"app-{n}"})["me"] for n in range(4)]
    assert len(set(ids)) == 4


def test_a_prompt_larger_than_the_edges_buffer_stays_too(edge: Edge) -> None:
    edge.apply(aware(*replicas(edge, 4)))
    conversations = [chat(SYSTEM, "x" * size) for size in (10, 60_000, 100_000, 300_000)]
    assert len(set(asked(edge.http, CHAT, conversations))) == 1


def test_a_full_replica_passes_a_prompt_on_and_keeps_it(edge: Edge) -> None:
    three = replicas(edge, 3)
    edge.apply(aware(*three, threshold=2))
    body = chat(SYSTEM, "x")
    (home,) = set(asked(edge.http, CHAT, [body] * 3))
    holder = next(each for each in three if each.name == home)
    waiting = [edge.connection() for _ in range(2)]
    for client in waiting:
        client.begin(f"{CHAT}?sleep=60", body)
    eventually(lambda: holder.started[CHAT] == 3 + len(waiting))
    assert home not in asked(edge.http, CHAT, [body] * 4)
    for client in waiting:
        client.close()
    eventually(lambda: len(holder.left) == len(waiting))
    assert set(asked(edge.http, CHAT, [body] * 3)) == {home}


def test_only_the_prompts_of_a_replica_that_went_move(edge: Edge) -> None:
    all_four = replicas(edge, 4)
    edge.apply(aware(*all_four[:3]))
    bodies = [chat(f"{number} {SYSTEM}", "x") for number in range(12)]
    homes = asked(edge.http, CHAT, bodies)
    edge.apply(aware(*all_four))
    assert asked(edge.http, CHAT, bodies) == homes
    edge.apply(aware(*all_four[1:]))
    after = asked(edge.http, CHAT, bodies)
    assert all(new == old for new, old in zip(after, homes, strict=True) if old != "r0")
    assert "r0" not in after
    assert asked(edge.http, CHAT, bodies) == after


def test_a_variant_that_is_named_is_prefix_aware_within(edge: Edge) -> None:
    four = replicas(edge, 4)
    edge.apply(aware(*four[:3], name="A"), variant("a", four[3], name="B"))
    target = {"X-Amzn-SageMaker-Target-Variant": "A"}
    homes = [{edge.http.post(CHAT, chat(f"{n} {SYSTEM}", "x"), target)["me"] for _ in range(3)} for n in range(6)]
    assert all(len(home) == 1 for home in homes)
    assert set.union(*homes) == {"r0", "r1", "r2"}


def test_a_killed_edge_begins_anew_and_remembers_again(edge: Edge) -> None:
    edge.apply(aware(*replicas(edge, 3)))
    os.kill(edge.process.pid, signal.SIGKILL)
    edge.process.wait()
    edge.restart()
    assert running(edge.config.runtime_socket) is not None
    client = edge.connection()
    assert len(set(asked(client, CHAT, [chat(SYSTEM, f"{n}") for n in range(6)]))) == 1


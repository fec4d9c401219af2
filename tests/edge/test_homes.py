"""Requests for one of many models meet at one replica, unless that has too much to do."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from server.dialects.target_model import TARGET_MODEL
from server.edge.routes import Backend, RouteTable
from tests.edge.conftest import Answerer, Edge, eventually, variant

PATH = "/endpoints/a/invocations"
MODELS = [f"model-{number}.tar.gz" for number in range(40)]


def many(*answerers: Answerer, name: str = "AllTraffic") -> Backend:
    return replace(variant("a", *answerers, name=name), affinity=TARGET_MODEL)


def homes(edge: Edge) -> dict[str, str]:
    """Who answers for each model; the same whenever it is asked."""
    found = [{model: edge.http.post(PATH, headers={TARGET_MODEL: model})["me"] for model in MODELS} for _ in range(2)]
    assert found[0] == found[1]
    return found[0]


def test_a_model_has_a_home_and_few_move_when_a_replica_comes_or_goes(edge: Edge) -> None:
    replicas = [edge.replica(name) for name in ("one", "two", "three")]
    edge.apply(many(*replicas[:2]))
    before = homes(edge)
    assert min(Counter(before.values()).values()) >= len(MODELS) / 5
    assert edge.apply(many(*replicas)) == "runtime"
    after = homes(edge)
    moved = {model for model in MODELS if before[model] != after[model]}
    assert {after[model] for model in moved} == {"three"}
    assert 0 < len(moved) < len(MODELS) * 0.6
    edge.apply(many(*replicas[1:]))
    gone = homes(edge)
    assert {model for model in MODELS if gone[model] != after[model]} == {m for m in MODELS if after[m] == "one"}


def test_a_model_that_many_ask_for_has_more_than_one_home(edge: Edge) -> None:
    replicas = [edge.replica(name) for name in ("one", "two")]
    edge.apply(many(*replicas))
    clients = [edge.connection() for _ in range(8)]
    with ThreadPoolExecutor(len(clients)) as pool:
        asked = [pool.submit(each.post, f"{PATH}?sleep=1", headers={TARGET_MODEL: "hot"}) for each in clients]
        eventually(lambda: sum(replica.started[PATH] for replica in replicas) == len(clients))
        answered = Counter(each.result()["me"] for each in asked)
    assert set(answered) == {"one", "two"}
    assert max(answered.values()) <= 6


def test_of_several_variants_the_one_that_is_named_has_homes(edge: Edge) -> None:
    replicas = [edge.replica(name) for name in ("one", "two")]
    edge.apply(many(*replicas, name="A"), variant("a", edge.replica("other"), name="B"))
    for model in MODELS[:10]:
        asked = {TARGET_MODEL: model, "x-amzn-sagemaker-target-variant": "A"}
        assert len({edge.http.post(PATH, headers=asked)["me"] for _ in range(6)}) == 1


def test_requests_that_name_none_go_round(edge: Edge) -> None:
    edge.apply(many(*[edge.replica(name) for name in ("one", "two")]))
    assert {edge.http.post(PATH)["me"] for _ in range(10)} == {"one", "two"}


def test_a_table_keeps_it() -> None:
    table = RouteTable((Backend("a", "V", 1.0, (), 4, affinity=TARGET_MODEL),))
    assert RouteTable.from_wire(table.to_wire()) == table
    with pytest.raises(ValueError, match="no header"):
        Backend("a", "V", 1.0, (), 4, affinity="x y")

"""Traffic follows the variants' weights and the revisions' shares, over many invocations."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from server.edge.routes import Backend
from tests.edge.conftest import Edge, eventually, variant

INVOCATIONS = 10_000
CALLERS = 4
WEIGHTS = {"A": 0.7, "B": 0.2, "C": 0.1}
CRITICAL = 13.82
"""Chi-square with two degrees of freedom is above this once in a thousand times."""


def test_ten_thousand_invocations_divide_by_weight(edge: Edge) -> None:
    replicas = {name: edge.replica(name) for name in WEIGHTS}
    edge.apply(*(variant("a", replicas[name], name=name, weight=weight) for name, weight in WEIGHTS.items()))
    clients = [edge.connection() for _ in range(CALLERS)]

    def work(number: int) -> Counter[str]:
        client = clients[number]
        return Counter(client.post("/endpoints/a/invocations")["me"] for _ in range(INVOCATIONS // CALLERS))

    with ThreadPoolExecutor(CALLERS) as pool:
        answered = sum(pool.map(work, range(CALLERS)), Counter[str]())
    assert answered.total() == INVOCATIONS
    expected = {name: weight * INVOCATIONS for name, weight in WEIGHTS.items()}
    chi_square = sum((answered[name] - count) ** 2 / count for name, count in expected.items())
    assert chi_square < CRITICAL, answered


def test_two_revisions_of_a_variant_divide_exactly_while_they_change_places(edge: Edge) -> None:
    old, new, other = (edge.replica(name) for name in ("old", "new", "other"))
    answered: Counter[str] = Counter()
    for share in (0.0, 0.25, 0.5, 1.0):
        pair = [replace(each.server, share=part) for each, part in ((old, 1 - share), (new, share)) if part > 0]
        split = Backend("a", "V", 3.0, tuple(pair), 64, split=True)
        edge.apply(split, variant("a", other, name="W"))
        answered = Counter(edge.http.post("/endpoints/a/invocations")["me"] for _ in range(400))
        assert answered["other"] == pytest.approx(100, abs=4)
        assert answered["new"] == pytest.approx(300 * share, abs=4), share
        targeted = {"X-Amzn-SageMaker-Target-Variant": "V"}
        by_name = Counter(edge.http.post("/endpoints/a/invocations", headers=targeted)["me"] for _ in range(100))
        assert by_name["new"] == pytest.approx(100 * share, abs=2), share
    assert answered.total() == 400


def test_what_a_revision_is_answering_when_its_share_goes_is_answered(edge: Edge) -> None:
    old, new = edge.replica("old"), edge.replica("new")
    both = tuple(replace(each.server, share=0.5) for each in (old, new))
    edge.apply(Backend("a", "V", 1.0, both, 64, split=True))
    clients, path = [edge.connection() for _ in range(6)], "/endpoints/a/invocations"
    with ThreadPoolExecutor(len(clients)) as pool:
        asked = [pool.submit(client.post, f"{path}?sleep=1") for client in clients]
        eventually(lambda: old.started[path] + new.started[path] == len(clients))
        assert edge.apply(Backend("a", "V", 1.0, (old.server,), 64, split=True)) == "runtime"
        assert edge.apply(Backend("a", "V", 1.0, (old.server,), 64)) == "reload"
        assert Counter(each.result()["me"] for each in asked) == {"old": 3, "new": 3}
    assert {edge.connection().post(path)["me"] for _ in range(4)} == {"old"}
    assert {client.status for client in clients} == {200}

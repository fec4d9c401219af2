"""Traffic follows the variants' weights, over many invocations."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.edge.conftest import Edge, variant

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

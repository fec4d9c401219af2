"""A Hearth on two nodes: replicas on both, TLS between them, a node that is lost, one that comes, and one that nobody
can reach.
"""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.cluster.conftest import CPUS, HEAD, REPLICAS, WORKER, Nodes
from tests.fixtures.pictures import digits
from tests.running.conftest import VISION, Hearth
from tests.running.test_scaling import Load

pytestmark = pytest.mark.long


def hosts(hearth: Hearth) -> list[str]:
    return sorted(replica["host"] for replica in hearth.replicas(VISION))


def test_replicas_are_on_both_nodes_and_answer(joined: Hearth) -> None:
    assert set(hosts(joined)) == {HEAD, WORKER}
    picture = digits(1)[0][0]
    url = f"/endpoints/{VISION}/invocations"
    for _ in range(40):
        assert joined.http.post(url, content=picture, headers={"content-type": "image/png"}).status_code == 200
    joined.wait("all had some", lambda: all(replica["requests_total"] for replica in joined.replicas(VISION)))


def test_a_replica_and_the_controller_talk_to_nodes_alone(joined: Hearth) -> None:
    for replica in joined.replicas(VISION):
        for scheme in ("http", "https"):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{scheme}://{replica['host']}:{replica['port']}/ping", verify=False, trust_env=False)
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", replica["port"]), 5):
            pass
    control = int((joined.state_dir / "run" / "control-port").read_text())
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://{HEAD}:{control}/state", verify=False, trust_env=False)
    assert "hearth_replicas" in joined.http.get("/metrics").text


def test_a_lost_node_costs_what_it_was_answering_and_another_takes_its_place(joined: Hearth, nodes: Nodes) -> None:
    clients = 4
    with Load(joined, VISION, clients) as load:
        joined.wait("the load runs", lambda: load.statuses[200] > 20)
        nodes.kill(WORKER)
        joined.wait("it is off the routes", lambda: set(hosts(joined)) == {HEAD}, 30)
        # What the node answered is lost once for each client; each may meet it again until its beats are missed.
        failed = sum(count for status, count in load.statuses.items() if status != 200)
        assert failed <= 2 * clients, load.statuses
        joined.wait("the other node is full", lambda: len(hosts(joined)) == CPUS, 120)
        nodes.start_worker()
        joined.wait("every replica is there again", lambda: len(hosts(joined)) == REPLICAS, 240)
        later = dict(load.statuses)
        joined.wait("the load runs on", lambda: load.statuses[200] > later[200] + 20)
    assert WORKER in hosts(joined)
    assert {s: n for s, n in load.statuses.items() if s != 200} == {s: n for s, n in later.items() if s != 200}


def test_a_node_that_nobody_can_reach_is_as_good_as_lost_until_it_is_back(joined: Hearth, nodes: Nodes) -> None:
    clients = 4
    with Load(joined, VISION, clients) as load:
        joined.wait("the load runs", lambda: load.statuses[200] > 20)
        nodes.cable.pull()
        joined.wait("it is off the routes", lambda: set(hosts(joined)) == {HEAD}, 30)
        before = load.statuses[200]
        joined.wait("every client is answered again", lambda: load.statuses[200] > before + 20 * clients, 60)
        # Nobody is told that what was under way is lost: each client waits until the edge gives the node up.
        failed = {status: count for status, count in load.statuses.items() if status != 200}
        assert sum(failed.values()) <= 2 * clients, failed
        joined.wait("the other node is full", lambda: len(hosts(joined)) == CPUS, 240)
        nodes.cable.plug()
        nodes.start_worker()  # Ray ends the raylet that it had given up
        joined.wait("every replica is there again", lambda: len(hosts(joined)) == REPLICAS, 240)
        assert {s: n for s, n in load.statuses.items() if s != 200} == failed
    assert WORKER in hosts(joined)

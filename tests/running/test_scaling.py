"""Sleeping, waking, refusing, deploying and deleting under load."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fixtures.pictures import digits
from tests.running.conftest import PAIR, SLEEPY, VISION, Hearth

PNG = digits(1)[0][0]
IMAGE = {"content-type": "image/png"}


class Load:
    """Clients that ask an endpoint again and again until told to stop; counts statuses."""

    def __init__(self, hearth: Hearth, endpoint: str, clients: int = 4) -> None:
        self.statuses: Counter[int | str] = Counter()
        self._url = f"{hearth.url}/endpoints/{endpoint}/invocations"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self) -> None:
        with httpx.Client(timeout=60.0, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    self.statuses[client.post(self._url, content=PNG, headers=IMAGE).status_code] += 1
                except httpx.HTTPError as error:
                    self.statuses[type(error).__name__] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_sleeping_endpoint_wakes_for_its_first_requests(hearth: Hearth, runtime: Any) -> None:
    hearth.wait("it sleeps", lambda: not hearth.replicas(SLEEPY) and not hearth.replicas(SLEEPY, "draining"), 60)
    assert hearth.endpoints()[SLEEPY]["status"] == "InService"

    def ask(_: int) -> Any:
        return runtime.invoke_endpoint(EndpointName=SLEEPY, ContentType="image/png", Body=PNG)

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        hearth.wait("the wait is visible", lambda: hearth.http.get("/hearth/state").json()["waiting"].get(SLEEPY), 30)
        for answer in asking:
            assert json.loads(answer.result()["Body"].read())
    hearth.wait("it sleeps again", lambda: not hearth.replicas(SLEEPY), 60)


def test_a_full_queue_refuses_at_once(hearth: Hearth) -> None:
    """Two requests may be in flight here; the others are told when to come back."""
    document = hearth.endpoints()[VISION]["document"]["variants"][0]
    small = {**document, "name": "AllTraffic", "limits": {**document["limits"], "max_in_flight": 2}}
    hearth.http.put("/hearth/endpoints/narrow", json=small).raise_for_status()
    try:
        hearth.wait("narrow is in service", lambda: hearth.endpoints()["narrow"]["status"] == "InService", 120)
        # A body that trickles in holds its slot for as long as it likes to take.
        with httpx.Client(base_url=hearth.url, timeout=30.0, trust_env=False) as client:
            release = threading.Event()

            def slow() -> Any:
                yield PNG[:10]
                release.wait(20)
                yield PNG[10:]

            with ThreadPoolExecutor(2) as pool:
                held = [
                    pool.submit(client.post, "/endpoints/narrow/invocations", content=slow(), headers=IMAGE)
                    for _ in range(2)
                ]
                hearth.wait("both hold a slot", lambda: hearth.replicas("narrow")[0]["in_flight"] == 2, 20)
                refused = client.post("/endpoints/narrow/invocations", content=PNG, headers=IMAGE)
                release.set()
                assert refused.status_code == 429
                assert int(refused.headers["retry-after"]) >= 1
                assert refused.headers["x-amzn-errortype"].startswith("ThrottlingException")
                assert [reply.result().status_code for reply in held] == [200, 200]
    finally:
        hearth.http.delete("/hearth/endpoints/narrow").raise_for_status()


def test_updating_and_deleting_under_load_fail_no_request(hearth: Hearth) -> None:
    document = hearth.endpoints()[VISION]["document"]["variants"][0]
    hearth.http.put("/hearth/endpoints/moving", json=document).raise_for_status()
    hearth.wait("moving is in service", lambda: hearth.endpoints()["moving"]["status"] == "InService", 120)
    with Load(hearth, "moving") as moving, Load(hearth, PAIR, 2) as beside:
        before = hearth.replicas("moving")[0]["replica_id"]
        changed = {**document, "env": {**document["env"], "GENERATION": "2"}}
        hearth.http.put("/hearth/endpoints/moving", json=changed).raise_for_status()
        hearth.wait(
            "the new revision alone serves",
            lambda: [r["replica_id"] for r in hearth.replicas("moving")] not in ([before], [])
            and before not in [r["replica_id"] for r in hearth.replicas("moving")]
            and hearth.endpoints()["moving"]["status"] == "InService",
            120,
        )
        served = sum(moving.statuses.values())
        hearth.wait("requests went on", lambda: sum(moving.statuses.values()) > served + 20, 30)
        assert set(moving.statuses) == {200}
        hearth.http.delete("/hearth/endpoints/moving").raise_for_status()
        hearth.wait("moving is gone", lambda: "moving" not in hearth.endpoints(), 60)
    assert set(moving.statuses) <= {200, 400}, moving.statuses
    assert set(beside.statuses) == {200}, beside.statuses


def test_an_endpoint_that_cannot_load_says_why(hearth: Hearth) -> None:
    done = hearth.cli("deploy", "broken", "--model", "no-such-model")
    try:
        assert done.returncode == 1
        assert "no-such-model" in done.stderr
        with pytest.raises(httpx.HTTPStatusError, match="429"):
            reply = hearth.http.post("/endpoints/broken/invocations", json={"inputs": "x"})
            assert "no-such-model" in reply.text
            reply.raise_for_status()
    finally:
        assert hearth.cli("delete", "broken").returncode == 0
    hearth.wait("it is gone", lambda: "broken" not in hearth.endpoints(), 60)

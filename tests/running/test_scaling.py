"""Sleeping, waking, refusing, deploying and deleting under load."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai as openai_package
import pytest
from botocore.exceptions import ClientError
from openai import OpenAI

from tests.fixtures.pictures import digits
from tests.running.conftest import PAIR, SLEEPY, VISION, VLM, Hearth

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
    hearth.wait("it sleeps", lambda: not hearth.replicas(SLEEPY) and not hearth.replicas(SLEEPY, "draining"))
    assert hearth.endpoints()[SLEEPY]["status"] == "InService"

    def ask(_: int) -> Any:
        return runtime.invoke_endpoint(EndpointName=SLEEPY, ContentType="image/png", Body=PNG)

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        hearth.wait("the wait is visible", lambda: hearth.http.get("/hearth/state").json()["waiting"].get(SLEEPY))
        for answer in asking:
            assert json.loads(answer.result()["Body"].read())
    hearth.wait("it sleeps again", lambda: not hearth.replicas(SLEEPY))


def test_a_full_replica_refuses_at_once(hearth: Hearth, openai: OpenAI, runtime: Any) -> None:
    """This endpoint takes two requests at a time; one more is told when to come back."""

    def stream() -> Any:
        return openai.completions.create(
            model=VLM, prompt="x", max_tokens=400, stream=True, extra_body={"ignore_eos": True}
        )

    with stream() as first, stream() as second:
        next(iter(first))
        next(iter(second))
        with pytest.raises(openai_package.RateLimitError) as refused:
            openai.completions.create(model=VLM, prompt="x", max_tokens=1)
        assert int(refused.value.response.headers["retry-after"]) >= 1
        with pytest.raises(ClientError) as throttled:
            runtime.invoke_endpoint(EndpointName=VLM, ContentType="application/json", Body=b'{"inputs": "x"}')
        assert throttled.value.response["Error"]["Code"] == "ThrottlingException"
    hearth.wait("both slots are free", lambda: hearth.replicas(VLM)[0]["in_flight"] == 0)
    assert openai.completions.create(model=VLM, prompt="x", max_tokens=1).choices


def test_updating_and_deleting_under_load_fail_no_request(hearth: Hearth) -> None:
    document = hearth.endpoints()[VISION]["document"]["variants"][0]
    hearth.http.put("/hearth/endpoints/moving", json=document).raise_for_status()
    hearth.wait("moving is in service", lambda: hearth.endpoints()["moving"]["status"] == "InService")
    with Load(hearth, "moving") as moving, Load(hearth, PAIR, 2) as beside:
        before = hearth.replicas("moving")[0]["replica_id"]
        changed = {**document, "env": {**document["env"], "GENERATION": "2"}}
        hearth.http.put("/hearth/endpoints/moving", json=changed).raise_for_status()
        hearth.wait(
            "the new revision alone serves",
            lambda: [r["replica_id"] for r in hearth.replicas("moving")] not in ([before], [])
            and before not in [r["replica_id"] for r in hearth.replicas("moving")]
            and hearth.endpoints()["moving"]["status"] == "InService",
        )
        served = sum(moving.statuses.values())
        hearth.wait("requests went on", lambda: sum(moving.statuses.values()) > served + 20)
        assert set(moving.statuses) == {200}
        hearth.http.delete("/hearth/endpoints/moving").raise_for_status()
        hearth.wait("moving is gone", lambda: "moving" not in hearth.endpoints())
    assert set(moving.statuses) <= {200, 400}, moving.statuses
    assert set(beside.statuses) == {200}, beside.statuses


def test_an_endpoint_that_cannot_load_says_why(hearth: Hearth) -> None:
    done = hearth.cli("deploy", "broken", "--model", "no-such-model")
    try:
        assert done.returncode == 1
        assert "no-such-model" in done.stderr
        reply = hearth.http.post("/endpoints/broken/invocations", json={"inputs": "x"})
        assert reply.status_code == 429
        assert "no-such-model" in reply.text
    finally:
        assert hearth.cli("delete", "broken").returncode == 0
    hearth.wait("it is gone", lambda: "broken" not in hearth.endpoints())

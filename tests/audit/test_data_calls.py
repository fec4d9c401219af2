"""Inference calls on their way: the guard samples them, a beat carries them, the controller's log has them."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine
from starlette.types import Receive, Scope, Send

from server.audit.keeper import Keeper
from server.audit.lookup import Found, Wanted, newest
from server.audit.sampling import DataCall, Sampled, Who
from server.audit.verify import verify
from server.beat import Beat
from server.controller.api import application
from server.controller.audit import Auditor
from server.controller.capture import CaptureConfigs
from server.controller.identities import Identities
from server.controller.rates import Rates
from server.controller.registry import Heard
from server.controller.shadows import Shadows
from server.dialects.identity import Identity
from server.guard.gate import Gate
from server.guard.metrics import Metrics
from server.guard.middleware import Guard
from server.identity.authority import Authority
from server.identity.judge import Judge
from server.replicas.heart import Heart
from server.replicas.plan import Home
from server.settings import Settings
from server.shadow.copier import Copier
from server.shadow.seal import Seal
from server.spec import Limits
from server.store.quotas import Defaults
from server.store.store import Store
from tests.audit.conftest import ACCOUNT, REGION

BEAT = Beat("r1", "chat", "main", "rev", "127.0.0.1", 1, 1, "ready")
CALL = DataCall("InvokeEndpoint", "/endpoints/chat/invocations", 200, "id", "10.0.0.9", "agent", time.time(), 1.5, 3, 4)


async def engine_app(scope: Scope, _receive: Receive, send: Send) -> None:
    status = 424 if scope["path"].endswith("broken") else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


class Routed:
    """As much of a controller as beats need."""

    def __init__(self) -> None:
        self.heard: list[Beat] = []
        self.registry = self
        self.meter = self
        self.captures = CaptureConfigs("")
        self.shadows = Shadows(None, None, "")  # type: ignore[arg-type]  # nothing is compared here

    def hear(self, beat: Beat) -> None:
        self.heard.append(beat)

    def routed(self, _replica_id: str) -> bool:
        return True

    def within(self, _account: str) -> Heard:
        return Heard((BEAT,))

    def adapters(self, _beat: Beat) -> list[Any]:
        return []

    async def keep(self, _account: str, _endpoint: str, _points: Any, _instances: int, _component: str) -> bool:
        return True


def open_gate() -> Gate:
    return Gate(Authority(), Judge(), Identity("chat", "main", "r1"))


def copier() -> Copier:
    return Copier(Seal("token", "chat"), "chat")


def home_at(url: str) -> Home:
    where = ("logs", True, "cache", "objects", None, "", "keys")
    return Home(url, "token", "127.0.0.1", ACCOUNT, REGION, 1.0, "info", *where)


def data(engine: Engine) -> list[Found]:
    return newest(engine, Wanted(account=ACCOUNT, management=False), 100)[0]


async def test_from_the_guard_to_the_log(tmp_path: Path, engine: Engine, keeper: Keeper) -> None:
    sampled, metrics = Sampled(1.0), Metrics("chat", "main")
    guard = Guard(engine_app, Identity("chat", "main", "r1", ACCOUNT), Limits(), metrics, opaque=True, sampled=sampled)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://replica") as client:
        headers = {"x-forwarded-for": "10.0.0.9", "x-request-id": "request-1", "user-agent": "Boto3/1"}
        await client.post("/endpoints/chat/invocations", content=b"secret question", headers=headers)
        await client.post("/endpoints/chat/openai/v1/chat/completions", content=b"{", headers=headers)
        await client.get("/ping")
    store = Store(engine, ACCOUNT, REGION)
    auditor = Auditor(Settings(state_dir=tmp_path), store)
    app = application(Routed(), auditor, Identities(store, None), Rates(store, Defaults()), "token")  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
    bound = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    home = home_at(f"http://127.0.0.1:{bound.getsockname()[1]}")
    heart = Heart(home, lambda: BEAT, metrics.periods, sampled, open_gate(), copier())
    await heart.say(last=True)
    await heart.stop()
    server.should_exit = True
    await serving
    await asyncio.to_thread(auditor.close)
    assert sampled.take() == ([], 0)
    events = sorted((each.event for each in data(engine)), key=lambda event: event["requestParameters"]["path"])
    assert [event["requestParameters"]["path"] for event in events] == ["/invocations", "/openai/v1/chat/completions"]
    good, bad = events
    assert good["eventName"] == "InvokeEndpoint"
    assert good["requestID"] == "request-1"
    assert (good["sourceIPAddress"], good["userAgent"]) == ("10.0.0.9", "Boto3/1")
    assert good["eventCategory"] == "Data"
    assert good["managementEvent"] is False
    assert good["resources"][0]["ARN"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/chat"
    assert good["additionalEventData"]["status"] == 200
    assert good["additionalEventData"]["bytesIn"] == 15
    assert bad["errorCode"].startswith("Status4")
    assert "secret question" not in json.dumps(events)
    assert verify(engine, keeper).problem is None


async def test_a_controller_that_does_not_answer_gets_them_later() -> None:
    sampled = Sampled(1.0)
    sampled.add(CALL)
    periods = Metrics("chat", "main").periods
    heart = Heart(home_at("http://127.0.0.1:9"), lambda: BEAT, periods, sampled, open_gate(), copier())
    await heart.say()
    await heart.stop()
    assert sampled.take() == ([CALL], 0)


def test_the_queue_is_bounded_and_counts_what_it_drops() -> None:
    sampled = Sampled(1.0, bound=3)
    for _ in range(5):
        sampled.add(CALL)
    taken, dropped = sampled.take()
    assert (len(taken), dropped) == (3, 2)
    sampled.add(CALL)
    sampled.put_back(taken, dropped)
    assert (len(sampled.take()[0]), sampled.take()) == (3, ([], 0))


def test_dropped_calls_are_in_the_log(tmp_path: Path, engine: Engine) -> None:
    auditor = Auditor(Settings(state_dir=tmp_path), Store(engine, ACCOUNT, REGION))
    auditor.hear(BEAT, {"sampled": [CALL.to_wire()], "dropped": 7})
    auditor.close()
    (note,), _ = newest(engine, Wanted(attributes={"EventName": "AuditEventsDropped"}), 5)
    assert note.event["serviceEventDetails"] == {"count": 7, "replica": "r1"}
    with pytest.raises(TypeError):
        auditor.hear(BEAT, {"sampled": [{"name": "x"}], "dropped": 0})


def test_shares_and_callers() -> None:
    drawn = iter([0.1, 0.3, 0.29, 0.9])
    sampled = Sampled(0.3, draw=lambda: next(drawn))
    assert [sampled.draws() for _ in range(4)] == [True, False, True, False]
    assert not Sampled(0.0).draws()
    who = Who("1", "arn:aws:iam::1:user/me", "AIDA", "AKID")
    assert DataCall.from_wire(json.loads(json.dumps({**CALL.to_wire(), "who": asdict(who)}))).who == who

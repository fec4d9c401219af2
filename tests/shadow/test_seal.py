"""Copies are known by a seal that only this Hearth makes; they are nobody's request."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from server.audit.sampling import Sampled
from server.errors import Unauthenticated
from server.guard.rates import OverRate
from server.nodes import NodeFiles
from server.replicas.listener import Listener
from server.shadow.copier import Copier
from server.shadow.copies import Target
from server.shadow.seal import WINDOW_S, Seal
from tests.fixtures.fake_engines import text_engines
from tests.fixtures.served import guarded
from tests.guard.test_gate import gate
from tests.shadow.test_copier import RUNTIME, SHADOW, TOKEN, ask, counts, production, settled

BODY = json.dumps({"inputs": "one two"}).encode()


def headers(sealed: str, request_id: str = "r-1") -> dict[str, str]:
    return {"x-hearth-shadow": sealed, "x-request-id": request_id, "content-type": "application/json"}


def off(seconds: float) -> Seal:
    """A seal whose clock is wrong."""
    return Seal(TOKEN, "m", now=lambda: time.time() + seconds)


async def test_a_replica_that_asks_who_calls_takes_copies_of_its_own_hearth_alone() -> None:
    seal, audited = Seal(TOKEN, "m"), Sampled(1.0)
    copying = Copier(seal, "m")
    copying.aim(Target("subject", "Shadow", 1.0, False, 1.0, ()))
    guard = guarded(text_engines(), identity=SHADOW, gate=gate(), seal=seal, sampled=audited, copying=copying)
    good = seal.header("Shadow", "r-1", RUNTIME, BODY)
    at, digest, mac = good.split(":")
    bad = {
        "another's key": Seal("other", "m").header("Shadow", "r-1", RUNTIME, BODY),
        "for another endpoint": Seal(TOKEN, "n").header("Shadow", "r-1", RUNTIME, BODY),
        "for another account": Seal(TOKEN, "m", "210987654321").header("Shadow", "r-1", RUNTIME, BODY),
        "for another variant": seal.header("AllTraffic", "r-1", RUNTIME, BODY),
        "another request": seal.header("Shadow", "r-2", RUNTIME, BODY),
        "another address": seal.header("Shadow", "r-1", "/invocations", BODY),
        "another body": seal.header("Shadow", "r-1", RUNTIME, BODY + b" "),
        "too old": off(-WINDOW_S - 5).header("Shadow", "r-1", RUNTIME, BODY),
        "of the future": off(WINDOW_S + 5).header("Shadow", "r-1", RUNTIME, BODY),
        "another time": f"{int(at) + 1}:{digest}:{mac}",
        "no seal": "1",
        "nothing": "",
        "the token itself": TOKEN,
        "not even text": f"{at}:{digest}:\u00e9",
    }
    transport = httpx.ASGITransport(guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        for words, sealed in bad.items():
            answer = await client.post(RUNTIME, content=BODY, headers=[
                *((k.encode(), v.encode("latin-1")) for k, v in headers(sealed).items())])  # fmt: skip
            assert answer.status_code in (401, 403), words
        answer = await client.post(RUNTIME, content=BODY, headers={"content-type": "application/json"})
        assert answer.status_code == 403
        refused = len(audited.take(all_of_them=True)[0])
        answer = await client.post(RUNTIME, content=BODY, headers=headers(good))
        assert answer.status_code == 200
        assert "one two" in answer.text
    assert refused == len(bad) + 1
    assert audited.take() == ([], 0)  # no client called
    assert copying.message()["tallies"] == {}  # no copy of a copy
    await copying.stop()


async def test_a_forged_copy_is_refused_where_nobody_is_asked_too() -> None:
    guard = guarded(text_engines(), identity=SHADOW, seal=Seal(TOKEN, "m"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://replica") as client:
        assert (await client.post(RUNTIME, content=BODY, headers=headers("1:2:3"))).status_code in (401, 403)


def test_the_seal_covers_the_body() -> None:
    seal = Seal(TOKEN, "m")
    sealed = seal.open(seal.header("Shadow", "r", "/p?q=1", BODY), "Shadow", "r", "/p?q=1")
    sealed.check(BODY)
    with pytest.raises(Unauthenticated):
        sealed.check(BODY[:-1])


class NothingLeft:
    """An account that has used all it may."""

    limited = False

    def admit(self) -> None:
        raise OverRate("requests", 1.0, 1)


async def test_copies_count_for_no_quota() -> None:
    seal = Seal(TOKEN, "m")
    guard = guarded(text_engines(), identity=SHADOW, seal=seal, rates=NothingLeft())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://replica") as client:
        plain = {"content-type": "application/json"}
        assert (await client.post(RUNTIME, content=BODY, headers=plain)).status_code == 429
        good = headers(seal.header("Shadow", "r-1", RUNTIME, BODY))
        assert (await client.post(RUNTIME, content=BODY, headers=good)).status_code == 200


async def test_copies_go_between_nodes_under_their_certificates(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path)
    files.renew()
    nodes, listener = files.read(), Listener()
    other = guarded(text_engines(), identity=SHADOW, seal=Seal(TOKEN, "m"))
    port = await listener.serve(other, "127.0.0.1", nodes)
    copying = Copier(Seal(TOKEN, "m"), "m", nodes=nodes)
    copying.aim(Target("subject", "Shadow", 1.0, False, 10.0, (("127.0.0.1", port),)))
    with production(copying) as served:
        await ask(served, 2)
        await settled(copying, 2)
    assert counts(copying)["compared"] == 2
    await copying.stop()
    await listener.stop(nothing)


async def nothing() -> None:
    """There is nothing to clean up."""

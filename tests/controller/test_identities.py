"""How replicas learn who may call them: the controller's answers to beats, and the snapshot behind them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import uvicorn

from server.audit.sampling import Sampled
from server.beat import Beat
from server.controller.api import application
from server.controller.audit import Auditor
from server.controller.identities import Identities
from server.controller.loop import Controller
from server.controller.rates import Rates
from server.dialects.identity import Identity
from server.edge.process import EdgeClient
from server.guard import rates as replica
from server.guard.gate import Gate
from server.identity.authority import Authority
from server.identity.directory import ACCESS_KEY, Directory
from server.identity.judge import Judge
from server.identity.keys import new_access_key
from server.identity.snapshot import Camera
from server.launch import edge_config
from server.metrics.periods import Periods
from server.replicas.heart import Heart
from server.replicas.plan import Home
from server.settings import Settings
from server.shadow.copier import Copier
from server.shadow.seal import Seal
from server.store import quotas
from server.store.migrate import migrate
from server.store.quotas import Defaults
from server.store.store import Store, connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

TOKEN = "token-of-this-hearth"
PATIENCE_S = 30.0


class Running:
    """A controller's own listener, and a replica's heart that beats to it."""

    def __init__(self, folder: Path, *, required: bool) -> None:
        settings = Settings(state_dir=folder)
        self.engine = connect(settings.database)
        migrate(self.engine)
        self.store = Store(self.engine, settings.account, settings.region)
        self.box = SecretBox(Vault(self.engine, settings.master_keys))
        camera = Camera.of(settings, self.box, self.engine, TOKEN) if required else None
        self.bound = socket.socket()
        self.bound.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.bound.getsockname()[1]}"
        home = Home(
            beat_url=self.url, token=TOKEN, bind_host="127.0.0.1", account=settings.account, region=settings.region,
            drain_timeout_s=1, log_level="info", log_dir=str(folder), cache_dir=str(folder), objects_dir=str(folder),
            objects_url=None, database_url=settings.database, master_key_file=str(settings.master_keys), sampler=False,
        )  # fmt: skip
        controller = Controller(settings, self.store, EdgeClient(edge_config(settings)), home, "none")
        self.rates = Rates(self.store, Defaults())
        app = application(
            controller, Auditor(settings, self.store), Identities(self.store, camera), self.rates, TOKEN
        )
        self.server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
        self.gate = Gate(Authority(), Judge(), Identity("e", "v", "r"))
        self.home = home

    def heart(self, name: str = "r", rates: replica.Rates | None = None) -> Heart:
        beat = Beat(name, "e", "v", "1", "127.0.0.1", 1, 1, "loading")
        copier = Copier(Seal(TOKEN, "e"), "e")
        return Heart(self.home, lambda: beat, Periods(), Sampled(0.0), self.gate, copier, rates)

    def key(self) -> str:
        """A new user's access key."""
        made = new_access_key(self.store.account, self.box)
        with Directory(self.store).change() as unit:
            made.keep(unit, unit.create_user(f"u{made.id[-4:]}").document["UserId"])
        return made.id


async def _running(folder: Path, *, required: bool) -> AsyncIterator[Running]:
    running = Running(folder, required=required)
    serving = asyncio.create_task(running.server.serve(sockets=[running.bound]))
    heart = running.heart()
    await asyncio.wait_for(heart.know(), PATIENCE_S)
    yield running
    await heart.stop()
    running.server.should_exit = True
    await serving
    running.engine.dispose()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async for each in _running(tmp_path, required=True):
        yield each


@pytest.fixture
async def open_one(tmp_path: Path) -> AsyncIterator[Running]:
    async for each in _running(tmp_path, required=False):
        yield each


async def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_replica_learns_of_keys_and_of_their_end(running: Running) -> None:
    assert running.gate.required is True
    key = running.key()
    await eventually(lambda: running.gate.authority.lookup(key) is not None)
    with Directory(running.store).change() as unit:
        row = unit.key(ACCESS_KEY, key)
        assert row is not None
        unit.set_status(row, "Inactive")
    await eventually(lambda: running.gate.authority.lookup(key) is None)


async def test_the_controller_learns_which_keys_were_used(running: Running) -> None:
    key = running.key()
    await eventually(lambda: running.gate.authority.lookup(key) is not None)
    running.gate.authority.note(key, "sagemaker", "eu-west-1")

    def seen() -> bool:
        row = Directory(running.store).key(ACCESS_KEY, key)
        return row is not None and (row.observation or {}).get("Region") == "eu-west-1"

    await eventually(seen)


async def test_where_nobody_is_asked_replicas_are_told_so(open_one: Running) -> None:
    assert open_one.gate.required is False
    assert not open_one.gate.authority.ready


async def test_the_snapshot_is_for_this_hearth_s_own_processes(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        assert (await client.get("/identities")).status_code == 401
        reply = await client.get("/identities", headers={"authorization": f"Bearer {TOKEN}"})
        assert reply.json()["version"] == running.gate.authority.version


async def test_a_replica_learns_its_share_of_a_rate(open_one: Running) -> None:
    quotas.put(open_one.store, open_one.store.account, quotas.REQUESTS, 6)
    open_one.rates._limits.clear()  # as a second later
    rates = replica.Rates()
    heart = open_one.heart("r2", rates)
    await heart.say()
    assert not rates.known  # a controller this young does not know who else is there
    open_one.rates._born -= 60.0
    await heart.say()
    assert rates.limited
    assert rates.report("1").usages["requests"].held == 6
    rates.admit()
    with pytest.raises(replica.OverRate):
        rates.admit()
    await heart.stop()

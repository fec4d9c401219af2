"""TLS between nodes: the edge, replicas and the controller verify one another, and nobody else is answered."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from server.certificates import outlasts, utc_now
from server.cli.up import CannotStart, check
from server.door.control_client import ControlClient
from server.edge.routes import RouteTable, Timeouts
from server.launch import Launch, edge_config, node_files
from server.nodes import LASTS, RENEW_BEFORE, NodeFiles, NodeIdentity
from server.replicas.listener import Listener
from server.settings import Settings, SettingsError, load
from tests.edge.conftest import Edge, eventually, started, variant


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> NodeFiles:
    made = NodeFiles(tmp_path_factory.mktemp("nodes") / "new")
    made.renew()
    return made


@pytest.fixture(scope="module")
def ours(files: NodeFiles) -> NodeIdentity:
    return files.read()


@pytest.fixture
def strange(tmp_path: Path) -> NodeIdentity:
    """Another Hearth's."""
    made = NodeFiles(tmp_path)
    made.renew()
    return made.read()


@pytest.fixture(scope="module")
def edge(files: NodeFiles) -> Iterator[Edge]:
    with started(Timeouts(body=0.5), nodes=files) as made:
        yield made


def test_a_replica_of_ours_is_reached_and_so_is_one_that_comes_later(edge: Edge, ours: NodeIdentity) -> None:
    first = edge.replica("first", ours)
    edge.apply(variant("a", first))
    assert edge.http.post("/endpoints/a/invocations", {})["me"] == "first"
    second = edge.replica("second", ours)
    assert edge.client.apply(RouteTable(backends=(variant("a", first, second),))) == "runtime"
    eventually(lambda: {edge.http.post("/endpoints/a/invocations", {})["me"] for _ in range(8)} == {"first", "second"})


@pytest.mark.parametrize("talks", ["plainly", "under another authority"])
def test_nothing_is_sent_to_a_listener_that_is_no_node_of_ours(edge: Edge, strange: NodeIdentity, talks: str) -> None:
    """As when somebody else has got the port of a replica that is gone."""
    other = edge.replica("other", None if talks == "plainly" else strange)
    edge.apply(variant("b", other))
    eventually(lambda: edge.http.post("/endpoints/b/invocations", {})["me"] == "door")
    assert not other.started["/endpoints/b/invocations"]


async def test_a_replica_answers_nodes_alone(ours: NodeIdentity, strange: NodeIdentity) -> None:
    async def answer(_request: Request) -> Response:
        return PlainTextResponse("secret")

    listener = Listener()
    port = await listener.serve(Starlette(routes=[Route("/", answer)]), "127.0.0.1", ours)

    async def ask(scheme: str, verify: ssl.SSLContext | bool) -> str:
        async with httpx.AsyncClient(verify=verify, trust_env=False, timeout=60) as client:
            return (await client.get(f"{scheme}://127.0.0.1:{port}/")).text

    assert await ask("https", ours.client()) == "secret"
    nobody = ssl.create_default_context(cadata=ours.authority)
    nobody.check_hostname = False
    for scheme, verify in (("https", nobody), ("https", strange.client()), ("http", True)):
        with pytest.raises(httpx.TransportError):
            await ask(scheme, verify)
    await listener.stop(lambda: asyncio.sleep(0))


async def test_the_door_calls_no_controller_that_is_not_ours(ours: NodeIdentity, strange: NodeIdentity) -> None:
    async def wake(_request: Request) -> Response:
        return PlainTextResponse("{}")

    listener = Listener()
    app = Starlette(routes=[Route("/wake/{endpoint}", wake, methods=["POST"])])
    port = await listener.serve(app, "127.0.0.1", strange)
    client = ControlClient(f"https://127.0.0.1:{port}", "token", ours)
    with pytest.raises(Exception, match="did not become ready"):
        await client.wake("a", 0.5)
    await client.close()
    friend = ControlClient(f"https://127.0.0.1:{port}", "token", strange)
    await friend.wake("a", 10)
    await friend.close()
    await listener.stop(lambda: asyncio.sleep(0))


def test_the_certificate_is_kept_until_a_year_before_its_end(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path)
    files.renew()
    first = files.read()
    files.renew(utc_now() + LASTS - RENEW_BEFORE - timedelta(days=1))
    assert files.read() == first
    late = utc_now() + LASTS - RENEW_BEFORE + timedelta(days=1)
    files.renew(late)
    assert files.read() != first
    assert outlasts(files.bundle, late + RENEW_BEFORE)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    assert "PRIVATE" not in repr(first)


def test_beyond_loopback_nodes_talk_tls_unless_told_otherwise(short_path: Path) -> None:
    def settings(**more: object) -> Settings:
        return Settings.model_validate({"state_dir": short_path, "port": _free(), **more})

    assert not settings().nodes_secure
    assert settings(node_tls=True).nodes_secure
    far = settings(replica_host="127.0.0.9")
    node_files(far).renew()
    assert far.nodes_secure
    assert edge_config(far).nodes == node_files(far)
    assert Launch(far, 7, "ray").control_url == "https://127.0.0.9:7"
    assert Launch(settings(), 7, "ray").control_url == "http://127.0.0.1:7"
    check(far)
    with pytest.raises(CannotStart, match="HEARTH_NODE_TLS"):
        check(settings(replica_host="127.0.0.9", node_tls=False))
    check(settings(replica_host="127.0.0.9", node_tls=False, allow_anonymous=True))
    with pytest.raises(SettingsError, match=r"HEARTH_REPLICA_HOST: replica_host: .*one address"):
        load(environ={"HEARTH_REPLICA_HOST": "0.0.0.0"})


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

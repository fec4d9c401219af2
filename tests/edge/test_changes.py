"""Routes that change and processes that are killed, under load."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from server.edge import process as edge_process
from server.edge import runtime
from server.edge.process import ConfigRefused, EdgeClient, PortTaken, StartFailed, start
from server.edge.routes import Backend, RouteTable, Server
from tests.edge.conftest import PATIENCE_S, Client, Edge, eventually, variant

VICTIM = """
import sys
from tests.edge.conftest import Answerer
print(Answerer("victim").port, flush=True)
sys.stdin.read()
"""


class Load:
    """Four kept-alive clients that ask without pause and note every answer and every failure."""

    def __init__(self, edge: Edge) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(edge.connection(),)) for _ in range(4)]

    def _ask(self, client: Client) -> None:
        while not self._stop.is_set():
            try:
                self.answers[client.post("/endpoints/a/invocations", b"{}")["me"]] += 1
            except Exception as error:  # every kind of failure counts, and is asserted on
                self.failures.append(repr(error))
                client.close()
            else:
                if client.status != 200:
                    self.failures.append(str(client.status))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, who: str) -> None:
        """Waits until `who` has answered again."""
        before = self.answers[who]
        eventually(lambda: self.answers[who] > before + 20, lambda: f"{self.answers} {self.failures}")


@contextmanager
def loaded(edge: Edge) -> Iterator[Load]:
    load = Load(edge)
    load.start()
    try:
        yield load
    finally:
        load.stop()


@contextmanager
def victim() -> Iterator[tuple[subprocess.Popen[str], Server]]:
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, Server("victim", "127.0.0.1", int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def test_the_least_step_is_taken(edge: Edge) -> None:
    one, two = edge.replica("one"), edge.replica("two")
    assert edge.apply() == "unchanged"
    assert edge.apply(variant("a", one)) == "reload"
    assert edge.apply(variant("a", one)) == "unchanged"
    assert edge.apply(variant("a", one, two)) == "runtime"
    assert {edge.http.post("/endpoints/a/invocations")["me"] for _ in range(20)} == {"one", "two"}
    assert edge.apply(variant("a", two)) == "runtime"
    assert {edge.http.post("/endpoints/a/invocations")["me"] for _ in range(20)} == {"two"}
    assert edge.apply(variant("a", two), default="a") == "reload"
    assert edge.connection().post("/invocations")["me"] == "two"
    many = Backend("a", "AllTraffic", 1, tuple(Server(f"r{n}", "127.0.0.1", 20000 + n) for n in range(9)), 64)
    assert edge.apply(many) == "reload"
    assert edge.apply(variant("a", one)) == "runtime"
    assert edge.apply() == "reload"
    assert edge.connection().post("/endpoints/a/invocations")["me"] == "door"


def test_replicas_and_endpoints_come_and_go_under_load(edge: Edge) -> None:
    one, two = edge.replica("one"), edge.replica("two")
    edge.apply(variant("a", one))
    with loaded(edge) as load:
        for n in range(4):
            load.more("one")
            assert edge.apply(variant("a", one, two), *[variant("x", two)] * (n % 2)) == ("reload" if n else "runtime")
            load.more("two")
            assert edge.apply(variant("a", two), *[variant("x", two)] * (n % 2)) == "runtime"
            load.more("two")
            assert edge.apply(variant("a", one), *[variant("x", two)] * (n % 2)) == "runtime"
    assert load.failures == []
    assert load.answers.keys() == {"one", "two"}


def test_a_request_in_flight_outlives_reload_and_stop(edge: Edge) -> None:
    replica = edge.replica("r")
    edge.apply(variant("a", replica))
    answers: list[str] = []
    client = edge.connection()
    thread = threading.Thread(target=lambda: answers.append(client.post("/endpoints/a/invocations?sleep=1")["me"]))
    thread.start()
    eventually(lambda: replica.started["/endpoints/a/invocations"] == 1)
    assert edge.apply(variant("a", replica), variant("b", replica)) == "reload"
    edge_process.stop(edge.process, 5)
    thread.join()
    assert answers == ["r"]


class Silenced:
    """A replica that answers checks and keeps every other request, until its machine is gone: connections that are
    there stay open, new ones are neither taken nor refused."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self.server = Server("silent", "127.0.0.1", self._listener.getsockname()[1])
        self.asked = threading.Event()
        self._gone = threading.Event()
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self._gone.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                if b"/ping" in connection.recv(4096):
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    connection.close()
                else:
                    self._held.append(connection)
                    self.asked.set()

    def vanish(self) -> None:
        """The kernel drops what its full queue has no room for, as a network does that leads nowhere."""
        self._gone.set()
        self._thread.join()
        with contextlib.suppress(TimeoutError):
            while True:
                self._held.append(socket.create_connection(("127.0.0.1", self.server.port), timeout=0.2))

    def close(self) -> None:
        for each in (*self._held, self._listener):
            each.close()


def test_what_a_silent_machine_was_answering_another_answers_once_it_is_off_the_routes(edge: Edge) -> None:
    silenced, other = Silenced(), edge.replica("other")
    with contextlib.closing(silenced):
        edge.apply(Backend("a", "AllTraffic", 1, (silenced.server,), 64))
        client = edge.connection()
        seen: list[str] = []
        asking = threading.Thread(
            target=lambda: seen.append(client.post("/endpoints/a/invocations", b"{}")["me"]), daemon=True
        )
        asking.start()
        assert silenced.asked.wait(PATIENCE_S)
        silenced.vanish()
        eventually(lambda: silenced.server.address in runtime.unreachable(edge.config.runtime_socket))
        assert not seen
        assert edge.apply(variant("a", other)) == "runtime"
        asking.join(PATIENCE_S / 2)
        assert seen == ["other"]


def test_a_killed_replica_costs_nothing_while_another_lives(edge: Edge) -> None:
    other = edge.replica("other")
    with victim() as (process, server), loaded(edge) as load:
        edge.apply(Backend("a", "AllTraffic", 1, (server, other.server), 64))
        load.more("victim")
        load.more("other")
        process.kill()
        process.wait()
        at = load.answers["victim"]
        load.more("other")
        load.more("other")
        assert load.answers["victim"] <= at + 4, "more than each client's last answer"
    assert [failure for failure in load.failures if "IncompleteRead" not in failure] == []


def test_requests_go_to_the_door_when_the_last_replica_is_killed(edge: Edge) -> None:
    with victim() as (process, server), loaded(edge) as load:
        edge.apply(Backend("a", "AllTraffic", 1, (server,), 64))
        load.more("victim")
        process.kill()
        load.more("door")
    # An answer that had begun is lost; everything else is asked again.
    assert [failure for failure in load.failures if "IncompleteRead" not in failure] == []


@pytest.mark.parametrize("whom", ["master", "worker"])
def test_an_edge_that_was_killed_comes_back_with_its_routes(edge: Edge, whom: str) -> None:
    one, two = edge.replica("one"), edge.replica("two")
    edge.apply(variant("a", one))
    edge.apply(variant("a", two))
    worker = psutil.Process(edge.process.pid).children()[0]
    os.kill(edge.process.pid if whom == "master" else worker.pid, signal.SIGKILL)
    edge.process.wait(60)
    edge.restart()
    assert edge.connection().post("/endpoints/a/invocations")["me"] == "two"
    assert edge.apply(variant("a", two)) == "unchanged"
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_a_worker_without_a_master_is_ended(edge: Edge) -> None:
    edge.apply(variant("a", edge.replica("r")))
    worker = psutil.Process(edge.process.pid).children()[0]
    worker.suspend()
    edge.process.kill()
    edge.process.wait(60)
    edge.restart()
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert edge.connection().post("/endpoints/a/invocations")["me"] == "r"


def test_routes_that_change_while_no_edge_runs_are_there_at_its_start(edge: Edge) -> None:
    edge.process.kill()
    edge.process.wait(60)
    eventually(lambda: edge.apply(variant("a", edge.replica("late"))) == "stored")
    edge.restart()
    assert edge.connection().post("/endpoints/a/invocations")["me"] == "late"
    edge.process.kill()
    edge.process.wait(60)
    edge.client.reset()
    edge.restart()
    assert edge.connection().post("/endpoints/a/invocations")["me"] == "door"


def test_a_taken_port_is_named(edge: Edge) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = dataclasses.replace(edge.config, port=other.getsockname()[1], run_dir=edge.config.run_dir / "b")
        with pytest.raises(PortTaken, match=f"Port {config.port} "):
            start(config, edge.log)
    shared = dataclasses.replace(edge.config, run_dir=edge.config.run_dir / "c")
    with pytest.raises(PortTaken, match=f"Port {edge.config.port} "):
        start(shared, edge.log)
    assert edge.http.post("/")["me"] == "door"


def test_what_haproxy_refuses_is_told_and_changes_nothing(edge: Edge) -> None:
    edge.apply(variant("a", edge.replica("r")))
    kept = edge.config.config_file.read_text()
    bad = EdgeClient(dataclasses.replace(edge.config, buffer_bytes=-1))
    with pytest.raises(ConfigRefused, match="bufsize"):
        bad.apply(RouteTable())
    assert edge.config.config_file.read_text() == kept
    assert edge.http.post("/endpoints/a/invocations")["me"] == "r"
    nowhere = dataclasses.replace(edge.config, run_dir=edge.config.run_dir / ("long" * 30), port=edge.config.port + 1)
    with pytest.raises(StartFailed, match="path"):
        start(nowhere, edge.log)


def test_what_the_door_may_have_begun_is_not_sent_again(edge: Edge) -> None:
    """A create that came twice would be refused the second time, and the client would believe that."""
    edge.door.close()
    edge.config.door_socket.unlink()
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(edge.config.door_socket))
        door.listen()
        door.settimeout(60)

        def die_after_reading() -> None:
            with contextlib.suppress(TimeoutError):
                while True:
                    caller, _ = door.accept()
                    heard.append(caller.recv(65536))
                    caller.close()
                    door.settimeout(1)

        thread = threading.Thread(target=die_after_reading)
        thread.start()
        with socket.create_connection(("127.0.0.1", edge.config.port), 10) as client:
            client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")  # whole, so it could be kept
            answer = client.recv(65536)
        thread.join()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert len(heard) == 1


def test_an_edge_that_breaks_off_is_no_running_one(tmp_path: Path) -> None:
    """It is asked anew at the next look; half an answer must not be taken for the whole."""
    whole = (
        b"proc.structure: type=str value=<0123>\n\n1\n"
        b"# be_name srv_name srv_addr srv_port srv_uweight srv_admin_state\n"
        b"ep.a AllTraffic.0 127.0.0.1 4000 1 0\n\n"
    )
    for length, there in ((len(whole), True), (len(whole) - 8, False), (60, False), (0, False)):
        path = tmp_path / f"s{length}"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()

            def answer(listening: socket.socket = listening, length: int = length) -> None:
                caller, _ = listening.accept()
                with caller:
                    caller.recv(1000)
                    caller.sendall(whole[:length])

            thread = threading.Thread(target=answer)
            thread.start()
            assert (runtime.running(path) is not None) is there
            thread.join()

"""S3 through the edge: a real HAProxy passes large bodies on as they come, whatever their keys are."""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from server.edge import process as edge_process
from server.edge.routes import EdgeConfig, Timeouts
from server.objects.app import application
from server.supervisor.ray_head import free_port
from tests.objects.conftest import blobs
from tests.objects.serving import PATIENCE_S, Served, client, eventually, settings
from tests.objects.test_objects import body
from tests.objects.test_wire import SIGNED

MIB = 1024 * 1024
PAUSE_S = 1.6
"""Longer than the edge waits for a header or for a body that it must look into."""


class Edge:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        times = Timeouts(headers=1.0, body=1.0)
        self.config = EdgeConfig(folder, folder / "door.sock", port=free_port("127.0.0.1"), threads=1, timeouts=times)
        self.door = Served(application(settings(folder)), self.config.door_socket)
        self.process = edge_process.start(self.config, folder / "edge.log")
        self.s3 = client(f"http://127.0.0.1:{self.config.port}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        self.door.close()


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    folder = Path(tempfile.mkdtemp(prefix="edge"))  # short: unix sockets' paths are
    started = Edge(folder)
    started.s3.create_bucket(Bucket="bucket-1")
    yield started
    started.close()
    shutil.rmtree(folder)


def connected(edge: Edge, head: str) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", edge.config.port), timeout=PATIENCE_S)
    plain.sendall(f"{head}authorization: {SIGNED['authorization']}\r\n\r\n".encode())
    return plain


def resident(edge: Edge) -> int:
    family = [psutil.Process(edge.process.pid), *psutil.Process(edge.process.pid).children(recursive=True)]
    return sum(int(one.memory_info().rss) for one in family)


def test_large_objects_pass_whole(edge: Edge) -> None:
    content = random.Random(5).randbytes(48 * MIB)
    before = resident(edge)
    edge.s3.put_object(Bucket="bucket-1", Key="large", Body=content)
    assert body(edge.s3.get_object(Bucket="bucket-1", Key="large")) == content
    assert resident(edge) - before < 16 * MIB, "the edge kept a body"


def test_an_upload_arrives_while_it_is_sent_and_may_pause(edge: Edge) -> None:
    before = set(blobs(edge.folder))
    with connected(edge, f"PUT /bucket-1/slow HTTP/1.1\r\nhost: x\r\ncontent-length: {8 * MIB}\r\n") as plain:
        plain.sendall(bytes(5 * MIB))
        eventually(lambda: any(path.stat().st_size >= 2 * MIB for path in set(blobs(edge.folder)) - before))
        time.sleep(PAUSE_S)
        plain.sendall(bytes(3 * MIB))
        assert plain.recv(100).startswith(b"HTTP/1.1 200")


def test_expect_continue_reaches_the_client(edge: Edge) -> None:
    head = "PUT /bucket-1/expected HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n"
    with connected(edge, head) as plain:
        assert plain.recv(100).startswith(b"HTTP/1.1 100")
        time.sleep(PAUSE_S)
        plain.sendall(b"body")
        assert plain.recv(100).startswith(b"HTTP/1.1 200")
    large = head.replace("bucket-1", "no-such-bucket").replace("length: 4", f"length: {2 * MIB}")
    with connected(edge, large) as plain:
        assert plain.recv(100).startswith(b"HTTP/1.1 404")


def test_keys_pass_as_they_are(edge: Edge) -> None:
    keys = ["a//b", "../up", "v1/models", "endpoints/a/invocations", "ü " * 100, "q?x=1", "nul\0l", "k" * 1024]
    for key in keys:
        edge.s3.put_object(Bucket="bucket-1", Key=key, Body=key.encode())
    assert [body(edge.s3.get_object(Bucket="bucket-1", Key=key)) for key in keys] == [key.encode() for key in keys]


@pytest.mark.parametrize("key", ["v1/model.bin", "endpoints/other/model.bin"])
def test_virtual_hosts_reach_the_store(edge: Edge, key: str) -> None:
    host = "host: bucket-1.localhost\r\n"
    with connected(edge, f"POST /{key}?uploads HTTP/1.1\r\n{host}content-length: 0\r\n") as plain:
        answer = b""
        while b"UploadResult>" not in answer.rpartition(b"</")[2] and (part := plain.recv(65536)):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")
        assert f"<Key>{key}</Key>".encode() in answer
    with connected(edge, f"PUT /{key} HTTP/1.1\r\n{host}content-length: 4\r\n") as plain:
        plain.sendall(b"body")
        assert plain.recv(100).startswith(b"HTTP/1.1 200")
    assert body(edge.s3.get_object(Bucket="bucket-1", Key=key)) == b"body"

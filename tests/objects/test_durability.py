"""Readers see whole objects, whatever happens to writers: other writers, kill -9, a full disk."""

from __future__ import annotations

import contextlib
import hashlib
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from server.objects.body import Body, Promise
from server.objects.local.blobs import Blobs
from server.objects.local.content import Reading
from server.objects.local.store import LocalStore
from server.objects.operations import MODEL
from tests.objects.conftest import blobs
from tests.objects.serving import PATIENCE_S, Served, client, eventually
from tests.objects.test_objects import body, code
from tests.objects.test_wire import SIGNED

MIB = 1024 * 1024


def sealed(seed: int, size: int) -> bytes:
    """Content that tells by itself whether it is whole."""
    content = random.Random(seed).randbytes(size)
    return hashlib.sha256(content).digest() + content


def whole(content: bytes) -> bool:
    return hashlib.sha256(content[32:]).digest() == content[:32]


def test_readers_see_whole_objects_while_writers_write(local: Served) -> None:
    s3 = client(local.url, max_pool_connections=20)
    s3.create_bucket(Bucket="contended")
    contents = [sealed(seed, size) for seed, size in enumerate((10, 100_000, 1_500_000, 3_000_000))]
    named = {"Bucket": "contended", "Key": "k"}
    s3.put_object(**named, Body=contents[0])
    over = threading.Event()
    reads = []

    def write(content: bytes) -> None:
        while not over.is_set():
            s3.put_object(**named, Body=content)

    def multipart() -> None:
        content = sealed(9, 5 * MIB + 77)
        parts = [content[: 5 * MIB], content[5 * MIB :]]
        while not over.is_set():
            upload = {**named, "UploadId": s3.create_multipart_upload(**named)["UploadId"]}
            done = [{"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
                    for number, part in enumerate(parts, 1)]  # fmt: skip
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})

    def read() -> None:
        while not over.is_set():
            answer = s3.get_object(**named)
            content = body(answer)
            assert whole(content), f"{len(content)} bytes that no writer wrote"
            if "-" not in answer["ETag"]:
                assert answer["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
            reads.append(len(content))

    with ThreadPoolExecutor(10) as threads:
        tasks = [threads.submit(write, content) for content in contents]
        tasks += [threads.submit(multipart), *(threads.submit(read) for _ in range(4))]
        try:
            wait(tasks, 2, FIRST_EXCEPTION)
            eventually(lambda: len(set(reads)) > 1 or any(task.done() for task in tasks))
        finally:
            over.set()
        for task in tasks:
            task.result(PATIENCE_S * 2)


def test_one_of_many_wins_an_absent_key(local: Served) -> None:
    s3 = client(local.url, max_pool_connections=20)
    s3.create_bucket(Bucket="raced")
    start = threading.Barrier(8)

    def claim(key: str) -> bool:
        start.wait(PATIENCE_S)
        try:
            s3.put_object(Bucket="raced", Key=key, Body=bytes(1_500_000), IfNoneMatch="*")
        except ClientError as error:
            return bool(error.response["Error"]["Code"] != "PreconditionFailed")
        return True

    with ThreadPoolExecutor(8) as threads:
        for key in ("a", "b", "c"):
            assert sum(threads.map(claim, [key] * 8)) == 1


def test_a_reader_ends_with_the_object_it_began_with(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "objects", "123456789012")
    with contextlib.closing(store):
        pieces = tuple(store.blobs.write([part]) for part in (b"one", b"two", b"three"))
        reading = Reading(store.blobs, pieces)
        blocks = reading.blocks()
        assert next(blocks) == b"one"
        store.blobs.discard(piece.blob for piece in pieces)
        assert list(blocks) == [b"two", b"three"]
        assert len(blobs(tmp_path)) == 3
        reading.close()
        assert blobs(tmp_path) == []


def test_a_writer_between_the_two_steps_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader has looked its object up; before it can hold on to the files, another put replaces them."""
    store = LocalStore(tmp_path, "123456789012")
    operations = {name: MODEL.operation_model(name) for name in ("CreateBucket", "PutObject", "GetObject")}
    named = {"Bucket": "bucket-1", "Key": "k"}
    pin = store.blobs.pin

    def put(content: bytes) -> None:
        promised = Promise(len(content), len(content), None, None, None, {}, ())
        store.call(operations["PutObject"], named, Body([content], promised))

    def late(names: Iterable[str]) -> None:
        monkeypatch.undo()
        put(b"new" * 10_000)
        pin(names)

    with contextlib.closing(store):
        store.call(operations["CreateBucket"], {"Bucket": "bucket-1"}, None)
        put(b"old" * 10_000)
        monkeypatch.setattr(store.blobs, "pin", late)
        content = store.call(operations["GetObject"], named, None)["Body"]
        assert b"".join(content.blocks()) == b"new" * 10_000
        content.close()
        assert len([path for path in tmp_path.glob("blobs/*/*") if path.is_file()]) == 1


class Process:
    """A server of its own that can be killed; its port outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.s3 = client(f"http://127.0.0.1:{self.port}")
        self.start()

    def start(self) -> None:
        descriptor = self._listener.fileno()
        command = [sys.executable, "-m", "tests.objects.serving", str(descriptor), str(self.folder)]
        self._process = subprocess.Popen(command, pass_fds=[descriptor], cwd=Path(__file__).parents[2])
        self.s3.list_buckets()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def close(self) -> None:
        self.kill()
        self._listener.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    started = Process(tmp_path)
    started.s3.create_bucket(Bucket="bucket-1")
    yield started
    started.close()


def test_a_put_that_is_killed_leaves_the_old_object_and_nothing_else(process: Process) -> None:
    old = sealed(1, 100_000)
    process.s3.put_object(Bucket="bucket-1", Key="k", Body=old)
    before = set(blobs(process.folder))
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE_S) as plain:
        head = f"PUT /bucket-1/k HTTP/1.1\r\nhost: x\r\ncontent-length: {8 * MIB}\r\n"
        plain.sendall(f"{head}authorization: {SIGNED['authorization']}\r\n\r\n".encode() + bytes(5 * MIB))
        eventually(lambda: any(path.stat().st_size >= MIB for path in set(blobs(process.folder)) - before))
        process.kill()
    assert len(blobs(process.folder)) == 2
    process.start()
    assert body(process.s3.get_object(Bucket="bucket-1", Key="k")) == old
    assert set(blobs(process.folder)) == before


def further(acknowledged: dict[str, int], before: dict[str, int]) -> bool:
    """Whether both writers have come on by two since."""
    return all(acknowledged.get(key, 0) > before.get(key, 0) + 1 for key in ("a", "b"))


def test_kills_at_random_points(process: Process) -> None:
    rng = random.Random(7)
    acknowledged: dict[str, int] = {}
    for _ in range(4):
        stop = threading.Event()

        def write(key: str, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                seed = acknowledged.get(key, 0) + 1
                try:
                    process.s3.put_object(Bucket="bucket-1", Key=key, Body=sealed(seed, 20_000 + 20_000 * (seed % 60)))
                except (ClientError, BotoCoreError):
                    return
                acknowledged[key] = seed

        writers = [threading.Thread(target=write, args=(key,)) for key in ("a", "b")]
        for writer in writers:
            writer.start()
        before = dict(acknowledged)
        eventually(partial(further, acknowledged, before))
        time.sleep(rng.uniform(0.0, 0.2))
        stop.set()
        process.kill()
        process.start()
        for writer in writers:
            writer.join(PATIENCE_S)
            assert not writer.is_alive()
        for key, seed in acknowledged.items():
            content = body(process.s3.get_object(Bucket="bucket-1", Key=key))
            # What was acknowledged, or the one after it, whose answer the kill took.
            candidates = [sealed(number, 20_000 + 20_000 * (number % 60)) for number in (seed, seed + 1)]
            assert content in candidates
            acknowledged[key] = seed + candidates.index(content)
        assert len(blobs(process.folder)) == len(acknowledged)
    assert min(acknowledged.values()) > 2


def test_a_full_disk_keeps_the_old_object(process: Process) -> None:
    old = sealed(1, 100_000)
    process.s3.put_object(Bucket="bucket-1", Key="k", Body=old)
    # The process may write no file beyond 2 MiB: its writes then fail as on a full disk.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))
    full = {"Bucket": "bucket-1", "Key": "k", "Body": bytes(4 * MIB)}
    assert code(process.s3.put_object, **full) == ("InsufficientStorage", 507)
    assert body(process.s3.get_object(Bucket="bucket-1", Key="k")) == old
    assert len(blobs(process.folder)) == 1


def test_sweeping_spares_the_living_and_the_named(tmp_path: Path) -> None:
    dead, living = Blobs(tmp_path), Blobs(tmp_path)
    named, lost = dead.write([b"named"]), dead.write([b"lost"])
    going_on = living.write([b"being written"])
    dead.close()
    sweeper = Blobs(tmp_path)
    assert sweeper.sweep(lambda: [named.blob]) == 1
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert left == {named.blob, going_on.blob}
    assert lost.blob not in left
    assert sweeper.sweep(list) == 1
    living.close()
    assert sweeper.sweep(list) == 1
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [tmp_path / sweeper.write([]).blob.split("/")[0]]
    sweeper.close()


@pytest.mark.parametrize("broken", [OSError("disk"), RuntimeError("client")])
def test_a_body_that_breaks_leaves_no_file(tmp_path: Path, broken: Exception) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"some"
        raise broken

    store = Blobs(tmp_path)
    with pytest.raises(type(broken)):
        store.write(blocks())
    assert list(tmp_path.glob("*/*")) == []
    store.close()

"""Clients that are slow, too many, or cut off."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from server.objects.app import ObjectsApp
from server.objects.local.store import LocalStore
from server.objects.signature import LooseGate
from tests.objects.serving import PATIENCE_S, Served, client, eventually
from tests.objects.test_objects import code
from tests.objects.test_wire import SIGNED


class Counted(ObjectsApp):
    """Counts the requests that are over, whichever way."""

    over = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.over += 1


class Own:
    """A store of its own whose patience and number of uploads a test chooses."""

    def __init__(self, folder: Path, **choices: Any) -> None:
        self.folder = folder
        self.app = Counted(LocalStore(folder, "123456789012"), LooseGate(), (), **choices)
        self.served = Served(self.app)
        client(self.served.url).create_bucket(Bucket="bucket-1")

    def upload(self, size: int, sent: bytes) -> socket.socket:
        """A PUT of `size` bytes of which only `sent` comes."""
        plain = socket.create_connection(("127.0.0.1", self.served.port), timeout=PATIENCE_S)
        head = f"PUT /bucket-1/k HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n"
        plain.sendall(f"{head}authorization: {SIGNED['authorization']}\r\n\r\n".encode() + sent)
        return plain

    def until_files(self, number: int) -> None:
        eventually(lambda: len(self.files) == number)

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.folder / "blobs").glob("*/*") if path.is_file()]


def all_of(plain: socket.socket) -> bytes:
    text = b""
    while part := plain.recv(65536):
        text += part
    return text


def test_slow_clients_are_let_go(tmp_path: Path) -> None:
    own = Own(tmp_path, idle_s=0.5)
    try:
        for size in (100, 3_000_000):
            with own.upload(size, b"abc") as plain:
                text = all_of(plain)
            assert text.startswith(b"HTTP/1.1 400")
            assert b"RequestTimeout" in text
        client(own.served.url).put_object(Bucket="bucket-1", Key="large", Body=bytes(64 * 1024 * 1024))
        over = own.app.over
        with socket.create_connection(("127.0.0.1", own.served.port), timeout=PATIENCE_S) as plain:
            head = "GET /bucket-1/large HTTP/1.1\r\nhost: x\r\n"
            plain.sendall(f"{head}authorization: {SIGNED['authorization']}\r\n\r\n".encode())
            eventually(lambda: own.app.over > over)
            assert len(all_of(plain)) < 64 * 1024 * 1024
        assert len(own.files) == 1
    finally:
        own.served.close()


def test_uploads_beyond_the_bound_are_asked_to_slow_down(tmp_path: Path) -> None:
    own = Own(tmp_path, uploads=1)
    s3 = client(own.served.url, retries={"total_max_attempts": 1})
    large = {"Bucket": "bucket-1", "Key": "other", "Body": bytes(2_000_000)}
    try:
        with own.upload(3_000_000, bytes(2_500_000)):
            own.until_files(1)
            assert code(s3.put_object, **large) == ("SlowDown", 503)
            s3.put_object(Bucket="bucket-1", Key="small", Body=bytes(100_000))
        own.until_files(1)  # the client left: what it sent goes
        # The place is free a moment after the file is gone: SDKs try again when they are asked to slow down.
        client(own.served.url, retries={"total_max_attempts": 8, "mode": "standard"}).put_object(**large)
    finally:
        own.served.close()


def test_an_end_amid_an_upload_leaves_nothing_of_it(tmp_path: Path) -> None:
    own = Own(tmp_path)
    with own.upload(3_000_000, bytes(2_500_000)):
        own.until_files(1)
        own.served.close()
    assert own.files == []


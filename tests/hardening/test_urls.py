"""Fields that could make Hearth call somebody: nothing is fetched that its owner has not allowed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from server.control import images
from server.dialects.images import decode_text
from server.errors import BadRequest
from server.guard.limits import check_document
from server.spec import Limits

HOSTS = (
    "169.254.169.254", "metadata.google.internal", "localhost", "0x7f000001", "2130706433", "127.1", "0", "[::1]",
    "[::ffff:127.0.0.1]", "allowed.example.evil.example", "evil.example#allowed.example",
    "evil.example?allowed.example",
    "allowed.example@evil.example", "evil.example\\@allowed.example", "allowed.example\t.evil.example",
    "evil.example%2f@allowed.example", "allowed.example%00.evil.example", "\uff21llowed.example.evil",
    "allowed.example.",
)  # fmt: skip
SCHEMES = ("http://{}/x", "https://{}/x", "HTTP://{}/x", "//{}/x", "ftp://{}/x", "gopher://{}/x", "\thttp://{}/x")
WHOLE = ("file:///etc/passwd", "file:/etc/passwd", "/etc/passwd", "s3://b/k", "http:/x", "http:x", "javascript:0")
URLS = [scheme.format(host) for scheme in SCHEMES for host in HOSTS] + list(WHOLE)


@pytest.fixture
def listening() -> Iterator[tuple[str, list[Any]]]:
    """An address of this machine, and who called it."""
    bound = socket.create_server(("127.0.0.1", 0))
    bound.settimeout(0.2)
    callers: list[Any] = []
    done = threading.Event()

    def accept() -> None:
        while not done.is_set():
            try:
                callers.append(bound.accept()[1])
            except TimeoutError:
                continue

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"127.0.0.1:{bound.getsockname()[1]}", callers
    done.set()
    thread.join(5)
    bound.close()


def bodies(url: str) -> Iterator[dict[str, Any]]:
    for key in ("image_url", "audio_url", "video_url", "file_url"):
        for value in (url, {"url": url}, {"url": url, "detail": "high"}):
            part = {"type": key, key: value}
            yield {"messages": [{"role": "user", "content": [part]}]}
            yield {"input": [{"role": "user", "content": [{"type": "input_image", key: value}]}]}
            yield {"documents": {"content": [part]}}
            yield {"query": {"content": [part]}, "documents": []}
    yield {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}]}
    nested = {"type": "image_url", "image_url": {"url": url}}
    yield {"messages": [{"role": "tool", "content": [{"type": "tool_result", "content": [nested]}]}]}


@pytest.mark.parametrize("url", URLS)
def test_media(url: str) -> None:
    for limits in (Limits(), Limits(allowed_media_hosts=("allowed.example",))):
        for body in bodies(url):
            with pytest.raises(BadRequest):
                check_document(body, limits)


def test_the_allowed_host_is_allowed() -> None:
    for body in bodies("https://allowed.example/x.png"):
        check_document(body, Limits(allowed_media_hosts=("allowed.example",)))


@pytest.mark.parametrize("url", URLS)
def test_images_of_invocations(url: str) -> None:
    with pytest.raises(BadRequest):
        decode_text(url, "inputs")


MODELS = ["http://{}/model.tar.gz", "https://{}/", "file:///etc/passwd", "/etc", "ftp://{}/x", "S3://b/k",
          " s3://b/k", "hf://a/b"]


@pytest.mark.parametrize("address", MODELS)
def test_model_data(address: str, listening: tuple[str, list[Any]]) -> None:
    host, callers = listening
    for container in (
        {"ModelDataUrl": address.format(host)},
        {"ModelDataSource": {"S3DataSource": {"S3Uri": address.format(host)}}},
    ):
        with pytest.raises(BadRequest):
            images.artifact(container)
    for variable in images.HUB_VARIABLES:
        with pytest.raises(BadRequest):
            images.served({"Image": "vllm", "Environment": {variable: address.format(host)}})
    assert not callers


@pytest.mark.parametrize("name", ["../x", "a/../b", "a/b/c", "/a/b", "a//b", "a/b?x", "a/b#x", "a@b/c", "http://x/y",
                                  "~/x", "a/"])
def test_hub_ids_are_ids(name: str) -> None:
    with pytest.raises(BadRequest):
        images.served({"Image": "vllm", "Environment": {"HF_MODEL_ID": name}})

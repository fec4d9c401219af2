"""Requests that two HTTP parsers could read differently, sent through a real HAProxy to real uvicorns.

What was smuggled past the edge would reach a server without the headers that the edge sets on every request of its
own, and the next client would get its answer.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket

import pytest

from tests.edge.conftest import Answerer, Edge

HEAD = b"POST /endpoints/a/invocations HTTP/1.1\r\nHost: x\r\n"
HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nX-Hearth-Endpoint: b\r\n\r\n"
SIZE = b"%d" % len(HIDDEN)
CHUNKED = b"0\r\n\r\n" + HIDDEN
QUIET_S = 0.2
NUMBERS = itertools.count()


def exchange(edge: Edge, request: bytes, first_s: float = QUIET_S) -> bytes:
    """All that comes back until the connection closes or nothing more comes, its first byte within `first_s`."""
    answer = b""
    raw = socket.create_connection(("127.0.0.1", edge.config.port), timeout=60)
    with raw, contextlib.suppress(TimeoutError, ConnectionError):
        raw.sendall(request)
        raw.settimeout(first_s)
        while piece := raw.recv(65_536):
            answer += piece
            raw.settimeout(QUIET_S)
    return answer


def servers(edge: Edge) -> list[Answerer]:
    return edge.answerers


def unharmed(edge: Edge) -> None:
    """Nothing came in sideways, and clients on the servers' kept connections get their own answers."""
    strange = [path for server in servers(edge) for path in server.unforwarded if path != "/ping"]
    assert not strange
    for path in ("/endpoints/a/invocations", "/endpoints/b/invocations", "/elsewhere"):
        target = f"{path}?{next(NUMBERS)}"
        client = edge.connection()
        answer = client.post(target, b"{}")
        assert (client.status, answer["target"]) == (200, target)
        client.close()


SMUGGLED = {
    "length and chunks": b"Content-Length: " + SIZE + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + CHUNKED,
    "two lengths": b"Content-Length: 0\r\nContent-Length: " + SIZE + b"\r\n\r\n" + HIDDEN,
    "two lengths in one": b"Content-Length: 0, " + SIZE + b"\r\n\r\n" + HIDDEN,
    "signed length": b"Content-Length: +" + SIZE + b"\r\n\r\n" + HIDDEN,
    "negative length": b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "hexadecimal length": b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "empty length": b"Content-Length:\r\n\r\n" + HIDDEN,
    "spaced length": b"Content-Length: 0 " + SIZE + b"\r\n\r\n" + HIDDEN,
    "overflowing length": b"Content-Length: 18446744073709551616\r\n\r\n" + HIDDEN,
    "length before the colon": b"Content-Length : " + SIZE + b"\r\n\r\n" + HIDDEN,
    "unknown encoding": b"Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "identity": b"Content-Length: 4\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKED,
    "chunked, identity": b"Content-Length: 4\r\nTransfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "chunked and cow": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n" + CHUNKED,
    "tab before chunked": b"Content-Length: 4\r\nTransfer-Encoding:\tchunked\r\n\r\n" + CHUNKED,
    "vertical tab": b"Content-Length: 4\r\nTransfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED,
    "quoted": b'Content-Length: 4\r\nTransfer-Encoding: "chunked"\r\n\r\n' + CHUNKED,
    "space before the colon": b"Content-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n" + CHUNKED,
    "space before the name": b"Content-Length: 4\r\n Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "folded": b"Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED,
    "folded into another": b"Content-Length: 4\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "bare line feed": b"Content-Length: 4\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "bare carriage return": b"Content-Length: 4\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "only line feeds": b"Content-Length: 0\n\n" + HIDDEN,
    "NUL in a value": b"Content-Length: 4\r\nX: a\0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "NUL in a name": b"Content-Length: 4\r\nTransfer-Encoding\0: chunked\r\n\r\n" + CHUNKED,
    "no name": b"Content-Length: 4\r\n: chunked\r\n\r\n" + CHUNKED,
    "chunk size with 0x": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + HIDDEN,
    "negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + HIDDEN,
    "overflowing chunk": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff0\r\n" + HIDDEN,
    "chunk ended by a line feed": b"Transfer-Encoding: chunked\r\n\r\n0\n\n" + HIDDEN,
    "line feed in an extension": b"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n" + HIDDEN,
    "longer chunk than said": b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n" + HIDDEN,
    "trailer with a length": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n" + HIDDEN,
    "upgrade": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n" + HIDDEN,
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n" + HIDDEN,
    "header named by connection": b"Connection: x-forwarded-for, x-request-id\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("rest", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_nothing_is_smuggled(routed: Edge, rest: bytes) -> None:
    answer = exchange(routed, HEAD + rest)
    assert answer[:12] in (b"", b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 422", b"HTTP/1.1 501")
    unharmed(routed)


LINES = {
    "absolute form": b"POST http://evil/endpoints/a/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "authority form": b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n",
    "version 0.9": b"GET /smuggled\r\n\r\n",
    "version 1.0 in chunks": b"POST /elsewhere HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "two spaces": b"GET  /smuggled  HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the path": b"GET /a HTTP/1.1 /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the path": b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "line feed in the path": b"GET /a\nX: y HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": b"GET /a#/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "no slash": b"GET smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "method with a line feed": b"GE\nT / HTTP/1.1\r\nHost: x\r\n\r\n",
    "two hosts": b"GET /elsewhere HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET /elsewhere HTTP/1.1\r\n\r\n",
    "host with a path": b"GET /elsewhere HTTP/1.1\r\nHost: x/../y\r\n\r\n",
    "nonsense expected": HEAD + b"Expect: 200-maybe\r\nContent-Length: 2\r\n\r\n{}",
    "expected and sent at once": HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "large header": b"GET /elsewhere HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 80_000 + b"\r\n\r\n",
    "many headers": b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 500 + b"\r\n",
    "long path": b"GET /" + b"a" * 80_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": bytes(range(256)) * 4,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
}


@pytest.mark.parametrize("request_", LINES.values(), ids=LINES.keys())
def test_odd_requests_are_answered_or_closed(routed: Edge, request_: bytes) -> None:
    answer = exchange(routed, request_)
    assert b"HTTP/1.1 500" not in answer
    unharmed(routed)


@pytest.mark.parametrize(
    "path",
    [
        "/endpoints/a%2f..%2fb/invocations", "/endpoints/a/invocations%2f..%2f..%2fb", "/endpoints/a%00/invocations",
        "/endpoints/a/invocations%00", "/endpoints/a/invocations;/../../b", "/endpoints/a/openai/v1/..%2f..%2fmetrics",
        "/endpoints/a\\..\\b/invocations", "/%65ndpoints/a/invocations", "/endpoints/./a/invocations",
        "/v1/..;/metrics", "/endpoints/a//invocations", "/endpoints/a/%69nvocations", "/endpoints/\xd0\xb0/invocations",
    ],
)  # fmt: skip
def test_only_the_very_path_goes_to_a_replica(routed: Edge, path: str) -> None:
    """The door knows no other spelling either: see `tests.hardening.test_names`."""
    answer = exchange(routed, f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode("latin-1"), 60)
    assert b"HTTP/1.1 400" in answer[:12] or json.loads(answer.partition(b"\r\n\r\n")[2])["me"] == "door"


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-Id: a\r\n\tX-Evil: 1", b"X-Request-Id: a%0d%0aX-Evil: 1", b"X-Request-Id: a\nX-Hearth-Endpoint: b",
        b"X-Amzn-SageMaker-Target-Variant: a%0d%0aX-Evil: 1", b"X-Hearth-Endpoint\t: b", b"X-Hearth-Endpoint: b",
        b"x-HEARTH-through: internal", b"X-Forwarded-For: 6.6.6.6", b"Forwarded: for=6.6.6.6", b"X-Hearth-Variant : B",
    ],
)  # fmt: skip
def test_headers_say_only_what_the_edge_lets_them(routed: Edge, line: bytes) -> None:
    answer = exchange(routed, HEAD + line + b"\r\nContent-Length: 0\r\n\r\n", 60)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-evil" not in head.lower().replace(b"%0d%0ax-evil", b"")
    if b" 200 " in head.partition(b"\r\n")[0]:
        headers = json.loads(body)["headers"]
        assert not [name for name in headers if name.startswith("x-hearth") or name in ("x-evil", "forwarded")]
        assert headers["x-forwarded-for"] == "127.0.0.1"

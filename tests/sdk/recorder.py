"""A proxy that passes every request on to Hearth and keeps a line about each.

It stands where AWS_ENDPOINT_URL points, and as HTTPS_PROXY it also sees, and refuses, what a client sends elsewhere.
"""

from __future__ import annotations

import http.client
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TIMEOUT_S = 300.0
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect", "content-length"}
_SCOPE = re.compile(r"Credential=[^/]*/\d+/([^/]*)/([^/]*)/aws4_request")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: what was asked of whom, and what came back."""

    service: str
    """The name it was signed for; `elsewhere` for a host that is not Hearth."""
    operation: str
    status: int
    error: str = ""
    client: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.service}:{self.operation} {self.error}".rstrip()


@dataclass
class Recorder:
    target: str
    seen: list[Seen] = field(default_factory=list)
    url: str = ""


@contextmanager
def recording(target: str) -> Iterator[Recorder]:
    """A recorder in front of the Hearth at `target`, until the block ends."""
    recorder = Recorder(target)

    class Handler(_Handler):
        record = recorder

    server = _Server(("127.0.0.1", 0), Handler)
    recorder.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ended, with its connections open, is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    record: Recorder

    def log_message(self, *_arguments: Any) -> None:
        """Silent: `Recorder.seen` has it."""

    def do_CONNECT(self) -> None:
        self.record.seen.append(Seen("elsewhere", self.path, 403))
        self.send_error(403, "Only Hearth is reachable here")

    def _pass_on(self) -> None:
        if self.path.startswith("http://"):
            self.record.seen.append(Seen("elsewhere", self.path, 403))
            self.send_error(403, "Only Hearth is reachable here")
            return
        body = self._body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        host = urlsplit(self.record.target)
        upstream = http.client.HTTPConnection(host.hostname or "", host.port, timeout=TIMEOUT_S)
        try:
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            self._answer(answer, body)
        finally:
            upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_OPTIONS = _pass_on  # noqa: N815 - the base class's names

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            """Trailers of the transfer; AWS's own are inside the body."""
        return b"".join(chunks)

    def _answer(self, answer: http.client.HTTPResponse, body: bytes) -> None:
        bare = self.command == "HEAD" or answer.status in (204, 304)
        streamed = not bare and answer.getheader("content-length") is None
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if streamed:
            self.send_header("Transfer-Encoding", "chunked")
        elif (length := answer.getheader("content-length")) is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        first = b""
        while not bare and (chunk := answer.read1(65536)):
            first = first or chunk
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if streamed else chunk)
        if streamed:
            self.wfile.write(b"0\r\n\r\n")
        self.record.seen.append(self._line(answer, body, first))

    def _line(self, answer: http.client.HTTPResponse, body: bytes, first: bytes) -> Seen:
        signed = _SCOPE.search(self.headers.get("authorization", ""))
        operation = self.headers.get("x-amz-target", "").rpartition(".")[2]
        if not operation and self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            operation = parse_qs(body.decode()).get("Action", [""])[0]
        operation = operation or f"{self.command} {self.path}"
        error = first[:300].decode(errors="replace") if answer.status >= 400 else ""
        service = signed[2] if signed else ""
        return Seen(service, operation, answer.status, error, self.headers.get("user-agent", ""))

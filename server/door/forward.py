"""From the door to a replica, through the edge's internal socket: the edge alone chooses the replica."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.errors import BadRequest, Unavailable
from server.http_client import HttpClient

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"expect",
    )
)
NO_SERVER = "x-hearth-no-server"

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Forwardable:
    """A request, read whole, and the place of the endpoint it is for (`server.edge.routes.place`)."""

    place: str
    method: str
    target: str
    """Path and query as the client sent them."""
    headers: Headers
    body: bytes


@dataclass(slots=True)
class Answer:
    """A replica's answer whose body is still arriving; `close` must be called."""

    status: int
    headers: list[tuple[bytes, bytes]]
    response: httpx.Response

    def chunks(self) -> AsyncIterator[bytes]:
        return self.response.aiter_raw()

    async def close(self) -> None:
        await self.response.aclose()


class Forwarder:
    """A client of the edge's internal socket."""

    def __init__(self, socket: Path, read_timeout_s: float) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = HttpClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket), limits=limits),
            base_url="http://edge",
            timeout=httpx.Timeout(read_timeout_s, connect=5.0),
        )

    async def send(self, request: Forwardable) -> Answer | None:
        """The replica's answer; None when the endpoint has no replica at this moment.

        Raises BadRequest for an address that no HTTP client can send on, Unavailable when the edge or the replica
        broke off before it answered.
        """
        headers = [(k, v) for k, v in request.headers if k.lower() not in HOP_BY_HOP]
        headers.append((b"x-hearth-endpoint", request.place.encode()))
        try:
            url = httpx.URL("http://edge" + request.target)
        except httpx.InvalidURL as error:
            raise BadRequest(f"The address cannot be used: {error}") from None
        outgoing = self._client.build_request(request.method, url, headers=headers, content=request.body)
        try:
            response = await self._client.send(outgoing, stream=True)
        except httpx.TransportError as error:
            raise Unavailable(f"The replica broke off: {type(error).__name__}.") from error
        if response.headers.get(NO_SERVER):
            await response.aclose()
            return None
        kept = [(k, v) for k, v in response.headers.raw if k.lower() not in HOP_BY_HOP - {b"content-length"}]
        return Answer(response.status_code, kept, response)

    async def close(self) -> None:
        await self._client.aclose()

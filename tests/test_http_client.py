"""What a connection that ends as it is made is to whoever asked for it."""

from __future__ import annotations

import socket

import httpx
import pytest

from server.http_client import HttpClient


def _asking_no_socket(_: httpx.Request) -> httpx.Response:
    """As anyio does where the connection was reset before it could be looked at."""
    none: socket.socket = None  # type: ignore[assignment]
    return httpx.Response(200, text=str(none.getpeername()))


def _wrong(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text=str(_.nothing))  # type: ignore[attr-defined]


async def test_it_is_an_error_of_the_connection() -> None:
    async with HttpClient(transport=httpx.MockTransport(_asking_no_socket)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1/")


async def test_other_mistakes_stay_what_they_are() -> None:
    async with HttpClient(transport=httpx.MockTransport(_wrong)) as client:
        with pytest.raises(AttributeError, match="nothing"):
            await client.get("http://127.0.0.1/")

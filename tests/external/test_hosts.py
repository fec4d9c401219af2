"""What may be called: nothing that is not listed, and nothing private behind a public name."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from server.errors import BadRequest
from server.external.hosts import Hosts, client, is_public
from tests.external.conftest import Make, openai_at
from tests.external.providers import Provider


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("", "https://api.openai.com/v1"),
        ("api.openai.com", "https://api.openai.com.evil.example/v1"),
        ("api.openai.com", "https://evil.example/api.openai.com"),
        ("api.openai.com:443", "https://api.openai.com:8443"),
        ("openai.com", "https://api.openai.com"),
        ("api.openai.com", "http://api.openai.com"),
        ("private:10.0.0.1:80", "http://10.0.0.2"),
    ],
    ids=lambda value: value or "none",
)
def test_hosts_that_are_not_listed_are_refused(allowed: str, url: str) -> None:
    with pytest.raises(BadRequest):
        Hosts(allowed).check(url)


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("other.example, API.openai.com", "https://api.openai.com/v1"),
        ("api.openai.com:443", "https://api.openai.com"),
        ("private:vllm.internal:8000", "http://vllm.internal:8000/v1"),
        ("10.0.0.1", "http://10.0.0.1:8000"),
        ("[::1]:80", "http://[::1]"),
    ],
)
def test_hosts_that_are(allowed: str, url: str) -> None:
    Hosts(allowed).check(url)


@pytest.mark.parametrize("entry", ["https://api.openai.com", "*.openai.com", "a@b", "host/path", "private:"])
def test_what_is_no_entry(entry: str) -> None:
    with pytest.raises(ValueError, match="external_hosts"):
        Hosts(entry)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_that_are() -> None:
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::6810:84e5")


async def test_a_listed_name_that_leads_inside_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    async def leads_inside(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", provider.port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", leads_inside)
    url = f"http://api.example:{provider.port}/v1/embeddings"
    async with client(Hosts("api.example"), 1.0, 1.0) as asking:
        with pytest.raises(httpx.ConnectError, match="not public"):
            await asking.post(url, json={"input": []})
        with pytest.raises(httpx.ConnectError, match="not public"):  # nor one that is not listed at all
            await asking.post(url.replace("api.example", "other.example"), json={"input": []})
    assert provider.asked == []
    async with client(Hosts("private:api.example"), 5.0, 5.0) as asking:
        answer = await asking.post(url, json={"model": "e", "input": ["four"]})
    assert answer.status_code == 200


def test_an_endpoint_of_a_host_that_is_not_listed_does_not_start(make: Make, provider: Provider) -> None:
    with pytest.raises(BadRequest, match="external_hosts"):
        make(openai_at(provider), allowed="api.openai.com")

"""Which hosts may be called, and that a name on the list leads to no other place.

An entry of `external_hosts` is HOST or HOST:PORT. What a name means is looked up here, and the connection goes to an
address that was checked: a public one, unless the entry begins with `private:` or is that very address. Redirects are
not followed, proxies of the environment not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpcore
import httpx

from server.errors import BadRequest
from server.http_client import HttpClient

PRIVATE = "private:"
_TUNNELS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""Addresses that mean an IPv4 address elsewhere."""
_PORTS = {"https": 443, "http": 80}
MOST_ADDRESSES = 4
"""Of one name that are tried."""


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    port: int | None
    private: bool


class Hosts:
    """The list. `text`: entries with commas between."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for what is no entry."""
        self._entries = tuple(_entry(part.strip()) for part in text.split(",") if part.strip())

    def check(self, url: str) -> None:
        """Raises BadRequest for an address that may not be called."""
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)
        found = self._found(host, port)
        if found is None:
            raise BadRequest(f"{host}:{port} is not among the hosts that may be called (setting external_hosts).")
        if parts.scheme != "https" and not found.private:
            raise BadRequest(f"{url} is not https: keys would travel in the clear.")

    def usable(self, host: str, port: int, addresses: Iterable[str]) -> list[str]:
        """Those of the addresses of a host that may be connected to."""
        found = self._found(host.lower(), port)
        if found is None:
            return []
        return [each for each in addresses if found.private or is_public(each)]

    def _found(self, host: str, port: int) -> _Entry | None:
        fit = [each for each in self._entries if each.host == host and each.port in (None, port)]
        return max(fit, key=lambda each: each.private, default=None)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the whole internet's, and of a single machine."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if any(found in tunnel for tunnel in _TUNNELS):
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def client(hosts: Hosts, connect_s: float, read_s: float) -> httpx.AsyncClient:
    """A client that connects to nothing else."""
    transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=512, max_keepalive_connections=64))
    transport._pool._network_backend = _Checked(hosts)  # httpx hands on no backend of its user's
    timeout = httpx.Timeout(read_s, connect=connect_s)
    headers = {"accept-encoding": "identity", "user-agent": "hearth"}
    return HttpClient(
        transport=transport, timeout=timeout, trust_env=False, follow_redirects=False, headers=headers
    )


class _Checked(httpcore.AsyncNetworkBackend):
    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host} was not found in time") from None
        except OSError as error:
            raise httpcore.ConnectError(f"{host} was not found: {error.strerror}") from None
        usable = self._hosts.usable(host, port, dict.fromkeys(str(each[4][0]) for each in found))
        if not usable:
            raise httpcore.ConnectError(f"{host} leads to addresses that are not public")
        failure: Exception | None = None
        for address in usable[:MOST_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _entry(text: str) -> _Entry:
    private = text.startswith(PRIVATE)
    parts = urlsplit(f"//{text.removeprefix(PRIVATE)}")
    if not parts.hostname or parts.path or parts.query or "@" in parts.netloc or "*" in parts.netloc:
        raise ValueError(f"external_hosts: {text!r} is not HOST or HOST:PORT")
    return _Entry(parts.hostname.lower(), parts.port, private or _is_address(parts.hostname))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

"""TLS between nodes: every process of one Hearth shows the other a certificate of the same private authority.

The edge and the door call replicas, replicas call the controller. Each side of such a connection verifies the
other against an authority that signs for nothing else; so hosts need no names, and a stranger gets no further than the
handshake.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from server.certificates import CALLS, SERVES, Authority, outlasts, utc_now, write_private

NAME = "node.hearth.internal"
LASTS = timedelta(days=5 * 365)
RENEW_BEFORE = timedelta(days=365)
"""Replicas keep what they were started with, so it is renewed long before its end, at a start of Hearth."""


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Where a machine that runs Hearth's own processes keeps its node certificate."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """Certificate, authority and key, as HAProxy reads them."""
        return self.folder / "node.pem"

    @property
    def authority(self) -> Path:
        return self._authority.file

    @property
    def _authority(self) -> Authority:
        return Authority(self.folder, "Hearth's nodes", RENEW_BEFORE * 2)

    def renew(self, now: datetime | None = None) -> None:
        """Makes what is missing or nears its end."""
        now = now or utc_now()
        if not outlasts(self.bundle, now + RENEW_BEFORE):
            write_private(self.bundle, self._authority.issue([NAME], LASTS, [SERVES, CALLS], now))

    def read(self) -> NodeIdentity:
        return NodeIdentity(self.bundle.read_text(), self.authority.read_text())


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What one node shows and whom it believes. Travels to replicas through Ray."""

    bundle: str = field(repr=False)
    authority: str

    def client(self) -> ssl.SSLContext:
        """For calls to another node."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the authority signs for nodes alone
        return self._filled(context)

    def server(self) -> ssl.SSLContext:
        """For answering other nodes; whoever shows no certificate of theirs is not answered."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._filled(context)

    def _filled(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.authority)
        with tempfile.NamedTemporaryFile("w") as file:  # OpenSSL reads keys from files alone; this one has mode 600
            file.write(self.bundle)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def listening(identity: NodeIdentity | None) -> Callable[[Any, Any], ssl.SSLContext] | None:
    """uvicorn's `ssl_context_factory`; None where nodes talk plainly."""
    return None if identity is None else lambda _config, _default: identity.server()


def calling(identity: NodeIdentity | None) -> ssl.SSLContext | bool:
    """httpx's `verify`."""
    return True if identity is None else identity.client()


def scheme(identity: NodeIdentity | None) -> str:
    return "http" if identity is None else "https"

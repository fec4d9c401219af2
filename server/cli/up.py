"""`hearth up`: starts Hearth, shows progress, prints how to call it."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from server.cli import keys
from server.cli.client import client
from server.control import endpoints
from server.door.pages import snippets
from server.errors import Unavailable
from server.launch import TOKEN, edge_config
from server.settings import LOOPBACK, Settings, read_secret
from server.spec import EndpointSpec
from server.store.store import Resource, Store, connect
from server.supervisor.supervisor import Supervisor

PROGRESS_EVERY_S = 0.5
CALM_EVERY_S = 5.0
"""Once everything declared has answered."""
LONGEST_SOCKET_PATH = 90
"""Bytes; the kernel allows 107, and HAProxy adds a suffix while it binds."""


class CannotStart(Exception):
    """What is wrong and how to mend it, in a line."""


def check(settings: Settings) -> None:
    """Raises CannotStart for what would make a start fail or be unsafe."""
    if settings.host not in LOOPBACK and not settings.allow_anonymous and not settings.authenticates:
        raise CannotStart(
            f"{settings.host} can be reached from other machines. Have every caller asked who they are (HEARTH_AUTH="
            "required; the first start makes a key) or, behind a gateway that does so, set HEARTH_ALLOW_ANONYMOUS=true."
        )
    if settings.spreads and not (settings.nodes_secure or settings.allow_anonymous or settings.authenticates):
        raise CannotStart(
            f"Replicas can be reached from other machines ({settings.replica_host}): leave HEARTH_NODE_TLS "
            "on, or have every caller asked who they are (HEARTH_AUTH=required)."
        )
    if (reason := keys.locked(settings)) is not None:
        raise CannotStart(reason)
    longest = edge_config(settings).fallback_socket
    if len(os.fsencode(longest)) > LONGEST_SOCKET_PATH:
        raise CannotStart(f"{settings.state_dir} is too long a path for sockets in it; choose another with --state.")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStart(
                    f"Port {settings.port} is taken. Choose another with --port, or end what listens there."
                ) from None
            raise CannotStart(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.") from None


def up(settings: Settings, console: Console) -> None:
    """Runs until stopped. Raises CannotStart, AlreadyRunning, RayError or EdgeError."""
    check(settings)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {escape(text)}", highlight=False, soft_wrap=True)

    say(f"state in {settings.state_dir}")
    if not settings.authenticates:
        who = "every local user: loopback address" if settings.host in LOOPBACK else "everyone who reaches it"
        say(f"open to {who}, nobody is asked who they are (HEARTH_AUTH=required changes that)")
    read_secret(settings.state_dir / TOKEN)  # what `Progress` calls with
    supervisor = Supervisor(settings, say)
    supervisor.run(Progress(settings, say, lambda found: ready(settings, found, console)))


class Progress:
    """Says each change of an endpoint once, and calls `done` once when everything declared can answer."""

    def __init__(self, settings: Settings, say: Callable[[str], None], done: Callable[[list[Resource]], None]) -> None:
        self._store = Store(connect(settings.database), settings.account, settings.region)
        self._http = client(settings, 1.0)
        self._say = say
        self._done: Callable[[list[Resource]], None] | None = done
        self._shown: dict[str, str] = {}
        self._next = 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (PROGRESS_EVERY_S if self._done else CALM_EVERY_S)
        try:
            found = endpoints.find(self._store)
        except Unavailable:  # nothing to tell; the parts that need the store try it again themselves
            return
        replicas = self._replicas()
        for resource in found:
            text = _text(resource, replicas)
            if self._shown.get(resource.name) != text:
                self._shown[resource.name] = text
                self._say(f"endpoint {resource.name}: {text}")
        if self._done is not None and replicas is not None and all(_settled(r, replicas) for r in found):
            self._done(found)
            self._done = None

    def _replicas(self) -> list[Any] | None:
        """The replicas as they say themselves; None while the controller starts."""
        if self._done is None:
            return None
        try:
            state = self._http.get("/hearth/state").raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        return list(state["replicas"]) if state["settled"] else None


def _settled(resource: Resource, replicas: list[Any]) -> bool:
    """Whether the endpoint failed, sleeps by right, or has a ready replica of each variant."""
    if resource.status in ("Failed", "UpdateRollbackFailed"):
        return True
    ready = {(r["endpoint"], r["variant"]) for r in replicas if r["phase"] == "ready"}
    return resource.status == "InService" and all(
        variant.scaling.min_replicas == 0 or (resource.name, variant.name) in ready
        for variant in EndpointSpec.model_validate(resource.document).variants
    )


def _text(resource: Resource, replicas: list[Any] | None) -> str:
    details = {r["detail"] for r in replicas or () if r["endpoint"] == resource.name and r["detail"]}
    text = f"{resource.status}{f': {resource.reason}' if resource.reason else ''}"
    return text + "".join(f" ({detail})" for detail in sorted(details) if detail not in text)


def ready(settings: Settings, found: list[Resource], console: Console) -> None:
    """Prints lines to copy."""
    console.print(f"\n[bold green]Hearth is ready[/bold green] at {settings.url}\n")
    for title, text in snippets(settings, found).items():
        console.print(f"[bold]{title}[/bold]")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.print()

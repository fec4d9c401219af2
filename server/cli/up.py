"""`hearth up`: starts Hearth, shows progress, prints how to call it."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

from rich.console import Console

from server.control import endpoints
from server.door.pages import snippets
from server.settings import LOOPBACK, Settings
from server.store.store import Resource, Store, connect
from server.supervisor.supervisor import Supervisor

PROGRESS_EVERY_S = 0.5


class CannotStart(Exception):
    """What is wrong and how to mend it, in a line."""


def check(settings: Settings) -> None:
    """Raises CannotStart for what would make a start fail or be unsafe."""
    if settings.host not in LOOPBACK and not settings.allow_anonymous and settings.api_key is None:
        raise CannotStart(
            f"{settings.host} can be reached from other machines. Set an API key (HEARTH_API_KEY, sent by clients as "
            "`Authorization: Bearer KEY`) or, behind a gateway that authenticates, HEARTH_ALLOW_ANONYMOUS=true."
        )
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
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {text}", highlight=False)

    say(f"state in {settings.state_dir}")
    if settings.host in LOOPBACK:
        say("open to every local user: loopback address, no key asked for")
    supervisor = Supervisor(settings, say)
    supervisor.run(Progress(settings, say, lambda found: ready(settings, found, console)))


class Progress:
    """Watches statuses in the store; says each change once, and when all are settled calls `done` once."""

    def __init__(self, settings: Settings, say: Callable[[str], None], done: Callable[[list[Resource]], None]) -> None:
        self._store = Store(connect(settings.database), settings.account, settings.region)
        self._say = say
        self._done: Callable[[list[Resource]], None] | None = done
        self._shown: dict[str, str] = {}
        self._next = 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PROGRESS_EVERY_S
        found = endpoints.find(self._store)
        for resource in found:
            text = f"{resource.status}{f': {resource.reason}' if resource.reason else ''}"
            if self._shown.get(resource.name) != text:
                self._shown[resource.name] = text
                self._say(f"endpoint {resource.name}: {text}")
        settled = all(r.status in ("InService", "Failed") and r.observed == r.generation for r in found)
        if self._done is not None and settled:
            self._done(found)
            self._done = None


def ready(settings: Settings, found: list[Resource], console: Console) -> None:
    """Prints lines to copy."""
    console.print(f"\n[bold green]Hearth is ready[/bold green] at {settings.url}\n")
    for title, text in snippets(settings.url, found).items():
        console.print(f"[bold]{title}[/bold]")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.print()

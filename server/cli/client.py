"""The command line's calls to a running Hearth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import typer

from server.launch import TOKEN, edge_config
from server.settings import Settings

TIMEOUT_S = 10.0
QUIET_S = 60.0
"""How long a stream may say nothing at all."""


class Hearth:
    """`/hearth/*` at one address. A failure ends the command with one line and status 1."""

    def __init__(self, settings: Settings) -> None:
        self._client = client(settings, TIMEOUT_S)
        self.url = settings.url

    def call(self, method: str, path: str, body: object = None) -> Any:
        try:
            reply = self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            raise fail(f"No Hearth answers at {self.url} ({type(error).__name__}). Is `hearth up` running?") from None
        if reply.status_code >= 400:
            raise fail(_message(reply))
        return reply.json()

    def lines(self, path: str) -> Iterator[str]:
        """The lines of a stream of server-sent events. Raises httpx.TransportError when it breaks off."""
        accept = {"accept": "text/event-stream"}
        with self._client.stream("GET", path, headers=accept, timeout=QUIET_S) as reply:
            if reply.status_code >= 400:
                reply.read()
                raise fail(_message(reply))
            yield from reply.iter_lines()


def client(settings: Settings, timeout_s: float) -> httpx.Client:
    """Calls of this Hearth's own user. Past TLS to the door's socket, which needs no certificate of either side."""
    headers = {} if (key := _key(settings)) is None else {"authorization": f"Bearer {key}"}
    door = httpx.HTTPTransport(uds=str(edge_config(settings).door_socket)) if settings.secure else None
    url = "http://door" if settings.secure else settings.url
    return httpx.Client(base_url=url, timeout=timeout_s, headers=headers, trust_env=False, transport=door)


def _key(settings: Settings) -> str | None:
    """The setting's key, else this Hearth's own token, which who owns its state may read."""
    if settings.api_key is not None or not settings.authenticates:
        return settings.api_key
    try:
        return (settings.state_dir / TOKEN).read_text().strip()
    except OSError as error:
        raise fail(
            f"Set HEARTH_API_KEY, or HEARTH_STATE_DIR to this Hearth's state folder: {settings.state_dir / TOKEN} "
            f"cannot be read ({error.strerror})."
        ) from None


def fail(message: str) -> typer.Exit:
    """Prints `message` to stderr; raise what it returns."""
    typer.secho(message, err=True, fg=typer.colors.RED)
    return typer.Exit(1)


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{reply.request.url} answered {reply.status_code}: {reply.text[:500]}"

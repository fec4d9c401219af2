"""The command line's calls to a running Hearth."""

from __future__ import annotations

from typing import Any

import httpx
import typer

TIMEOUT_S = 10.0


class Hearth:
    """`/hearth/*` at one address. A failure ends the command with one line and status 1."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=bearer(api_key), trust_env=False)
        self.url = url

    def call(self, method: str, path: str, body: object = None) -> Any:
        try:
            reply = self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            raise fail(f"No Hearth answers at {self.url} ({type(error).__name__}). Is `hearth up` running?") from None
        if reply.status_code >= 400:
            raise fail(_message(reply))
        return reply.json()


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that carries a key."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def fail(message: str) -> typer.Exit:
    """Prints `message` to stderr; raise what it returns."""
    typer.secho(message, err=True, fg=typer.colors.RED)
    return typer.Exit(1)


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{reply.request.url} answered {reply.status_code}: {reply.text[:500]}"

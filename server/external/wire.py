"""Asking a provider over HTTP: what may go wrong, in one exception, and parts of answers as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

MOST_ERROR_BYTES = 64 * 1024
MOST_ANSWER_BYTES = 32 * 1024 * 1024
MOST_LINE_BYTES = 4 * 1024 * 1024
MOST_RETRY_AFTER_S = 3600


class ProviderFailed(Exception):
    """A provider did not answer. `status`: its own; 0: none came. `message` may be shown to a caller."""

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after
        """Seconds that it asked for."""

    @property
    def passes(self) -> bool:
        """Whether the same provider may answer in a moment."""
        return self.status in (0, 408, 409, 425, 429) or self.status >= 500

    @property
    def callers(self) -> bool:
        """Whether it is the request that is wrong, for any provider."""
        return self.status in (400, 413, 415, 422)


@asynccontextmanager
async def asked(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], content: bytes
) -> AsyncIterator[httpx.Response]:
    """A 2xx answer, whose body is to be read. Raises ProviderFailed; so does what breaks inside."""
    request = client.build_request("POST", url, headers=dict(headers), content=content)
    response: httpx.Response | None = None
    try:
        response = await client.send(request, stream=True)
        if not 200 <= response.status_code < 300:
            raise await _refusal(response)
        yield response
    except httpx.TimeoutException as error:
        raise ProviderFailed(f"the provider did not answer in time ({type(error).__name__})") from error
    except httpx.HTTPError as error:
        raise ProviderFailed(f"the connection to the provider failed ({type(error).__name__})") from error
    finally:
        if response is not None:
            await response.aclose()


async def document(response: httpx.Response) -> dict[str, Any]:
    """A whole answer. Raises ProviderFailed."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MOST_ANSWER_BYTES:
            raise ProviderFailed("the provider's answer is too long", 502)
    return parsed(bytes(body))


def parsed(text: bytes | str) -> dict[str, Any]:
    """Raises ProviderFailed for what is no JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderFailed("the provider's answer is no JSON object", 502)
    return found


async def events(response: httpx.Response) -> AsyncIterator[str]:
    """The data of server-sent events, those of one event together. Raises ProviderFailed."""
    data: list[str] = []
    async for line in _lines(response):
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")
        if len(rest) > MOST_LINE_BYTES:
            raise ProviderFailed("an event of the provider's is too long", 502)
    if rest:
        yield rest.decode(errors="replace")


async def _refusal(response: httpx.Response) -> ProviderFailed:
    status = response.status_code
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part[: MOST_ERROR_BYTES - len(body)]
        if len(body) >= MOST_ERROR_BYTES:
            break
    if 300 <= status < 400:
        return ProviderFailed("the provider redirects, which is not followed", 502)
    if status in (401, 403):  # what it says may repeat the key
        return ProviderFailed("the provider does not take the key that this endpoint has for it", status)
    return ProviderFailed(said(bytes(body)) or f"the provider answered {status}", status, _retry_after(response))


def said(body: bytes) -> str:
    """The message of an error: OpenAI's and Anthropic's under `error`, AWS's beside it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = found.get("error", found) if isinstance(found, dict) else None
    if isinstance(error, str):
        return error[:1000]
    if isinstance(error, dict):
        message = error.get("message", error.get("Message"))
        return message[:1000] if isinstance(message, str) else ""
    return ""


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return min(MOST_RETRY_AFTER_S, max(0.0, float(response.headers.get("retry-after", ""))))
    except ValueError:
        return None

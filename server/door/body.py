"""A request's body, read whole: bounded in size and in time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from server.errors import BodyTooLarge, RequestTimeout

CONTROL_BYTES = 4 * 1024 * 1024
"""Largest body of a call that manages something."""
TIMEOUT_S = 30.0


async def whole(request: Request, most: int) -> bytes:
    """Raises BodyTooLarge as soon as it is, RequestTimeout for one that does not come."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise BodyTooLarge(f"The body is larger than {most} bytes.")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise BodyTooLarge(f"The body is larger than {most} bytes.")
                chunks.append(chunk)
    except (TimeoutError, ClientDisconnect):
        raise RequestTimeout(f"The body did not arrive within {TIMEOUT_S:.0f} s.") from None
    return b"".join(chunks)

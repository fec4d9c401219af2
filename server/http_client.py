"""httpx's client as parts of Hearth use it to call one another."""

from __future__ import annotations

from typing import Any

import httpx


class HttpClient(httpx.AsyncClient):
    """Raises httpx.ConnectError also where the other end is gone between accepting and being looked at, as when it is
    killed: anyio 4 then asks a socket that is None for its peer."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        try:
            return await super().send(request, **options)
        except AttributeError as error:
            if error.name != "getpeername":
                raise
            raise httpx.ConnectError("the connection ended as it was made", request=request) from error

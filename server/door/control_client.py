"""The door's view of the controller: waking endpoints and reading the state of replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx

from server.errors import HearthError, NotFound, NotReady, Throttled, Unavailable
from server.http_client import HttpClient
from server.nodes import NodeIdentity, calling

RETRY_S = 0.2


class ControlClient:
    """Calls the controller's own listener; a controller that restarts is waited for."""

    def __init__(self, url: str, token: str, nodes: NodeIdentity | None = None) -> None:
        self._client = HttpClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
            verify=calling(nodes),
        )

    async def wake(self, endpoint: str, timeout_s: float, account: str = "", component: str = "") -> None:
        """Returns once `endpoint`, or its inference component, can be routed to. `account`: its owner's, empty for this
        Hearth's own. Raises NotFound, NotReady or Throttled."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                reply = await self._client.post(
                    f"/wake/{endpoint}",
                    params={"timeout_s": left, "account": account, "component": component},
                    timeout=httpx.Timeout(left + 5.0, connect=2.0),
                )
            except httpx.TransportError:
                await asyncio.sleep(RETRY_S)
                continue
            if reply.status_code != 200:
                raise _as_error(reply)
            return
        raise NotReady(f"Endpoint {endpoint} did not become ready within {timeout_s:.0f} s.")

    async def state(self) -> dict[str, Any]:
        """Replicas and waiting requests of all accounts. Raises Unavailable while the controller restarts."""
        try:
            reply = await self._client.get("/state", timeout=5.0)
            return dict(reply.raise_for_status().json())
        except httpx.HTTPError as error:
            raise Unavailable(f"The controller does not answer: {type(error).__name__}.") from error

    async def close(self) -> None:
        await self._client.aclose()


def of_account(state: Mapping[str, Any], account: str) -> dict[str, Any]:
    """What one account sees of the state; empty: this Hearth's own."""
    waiting = {where.rpartition(":"): count for where, count in state["waiting"].items()}
    return {
        **state,
        "replicas": [beat for beat in state["replicas"] if beat["account"] == account],
        "waiting": {name: count for (owner, _, name), count in waiting.items() if owner == account},
    }


def _as_error(reply: httpx.Response) -> HearthError:
    try:
        problem = reply.json()
        message, retry_after = str(problem["message"]), problem.get("retry_after") or 5
    except (ValueError, KeyError):
        return Unavailable(f"The controller answered {reply.status_code}.")
    if reply.status_code == 404:
        return NotFound(message)
    if reply.status_code == 429:
        return Throttled(message, retry_after=retry_after)
    return NotReady(message, retry_after=retry_after)

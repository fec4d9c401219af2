"""`/metrics` at one place: the edge's, the door's and every replica's series, merged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import Gauge, generate_latest

from server.door.control_client import ControlClient
from server.door.metrics import merge
from server.errors import Unavailable
from server.nodes import NodeIdentity, calling, scheme

TIMEOUT_S = 2.0

REPLICAS = Gauge("hearth_replicas", "Replicas by endpoint and phase.", ["EndpointName", "VariantName", "phase"])
WAITING = Gauge("hearth_waiting", "Requests that wait for a sleeping endpoint.", ["EndpointName"])


class Scraper:
    """Collects at the time it is asked; a source that does not answer is left out and counted."""

    def __init__(self, control: ControlClient, edge_socket: Path, nodes: NodeIdentity | None = None) -> None:
        self._control = control
        self._scheme = scheme(nodes)
        self._replicas = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=calling(nodes))
        self._edge = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(edge_socket)),
            base_url="http://edge",
            timeout=TIMEOUT_S,
        )

    async def scrape(self) -> bytes:
        try:
            state = await self._control.state()
        except Unavailable:
            state = {"replicas": [], "waiting": {}}
        _note(state)
        beats = [beat for beat in state["replicas"] if beat["port"]]
        texts = await asyncio.gather(
            self._get(self._edge, "/metrics"),
            *(self._get(self._replicas, self._address(beat)) for beat in beats),
        )
        labels: list[Mapping[str, str]] = [{"component": "edge"}]
        labels += [
            {"replica": beat["replica_id"], "endpoint": beat["endpoint"], "variant": beat["variant"]} for beat in beats
        ]
        own = ({"component": "door"}, generate_latest().decode())
        return merge([own, *zip(labels, texts, strict=True)])

    def _address(self, beat: Mapping[str, Any]) -> str:
        host = f"[{beat['host']}]" if ":" in beat["host"] else beat["host"]
        return f"{self._scheme}://{host}:{beat['port']}/metrics"

    async def _get(self, client: httpx.AsyncClient, url: str) -> str:
        try:
            return (await client.get(url)).raise_for_status().text
        except httpx.HTTPError as error:
            return f"unreachable {type(error).__name__}"

    async def close(self) -> None:
        await self._replicas.aclose()
        await self._edge.aclose()


def _note(state: Mapping[str, Any]) -> None:
    REPLICAS.clear()
    for beat in state["replicas"]:
        REPLICAS.labels(beat["endpoint"], beat["variant"], beat["phase"]).inc()
    WAITING.clear()
    for endpoint, count in state["waiting"].items():
        WAITING.labels(endpoint).set(count)

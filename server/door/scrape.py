"""`/metrics` at one place: the edge's, the door's and every replica's series, merged."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from server.door.control_client import ControlClient, of_account
from server.door.keeper import tenant_of
from server.door.metrics import merge
from server.errors import Unavailable
from server.http_client import HttpClient
from server.identity.caller import Caller
from server.nodes import NodeIdentity, calling, scheme

TIMEOUT_S = 2.0

PROXY = re.compile(r'[{,]proxy="ep\.(?:([0-9]{12}):)?')
"""The backend of an endpoint in the edge's series, and whose it is; without a match the edge's own parts."""


@dataclass(frozen=True, slots=True)
class View:
    """What a caller sees: its own account, empty for this Hearth's own, or `everything`."""

    account: str = ""
    everything: bool = True

    @classmethod
    def of(cls, caller: Caller | None, own: str) -> View:
        """The own account's root runs this Hearth, and so does anybody where nobody is asked."""
        return cls(tenant_of(caller, own), caller is None or caller.id == own)

    def edge(self, text: str) -> str:
        """The edge's exposition without what is others'."""
        if self.everything:
            return text
        return "\n".join(line for line in text.split("\n") if line.startswith("#") or self._shows(line))

    def _shows(self, line: str) -> bool:
        found = PROXY.search(line)
        return (found is not None and (found[1] or "") == self.account) or (found is None and not self.account)


class Scraper:
    """Collects at the time it is asked; a source that does not answer is left out and counted."""

    def __init__(self, control: ControlClient, edge_socket: Path, nodes: NodeIdentity | None = None) -> None:
        self._control = control
        self._scheme = scheme(nodes)
        self._replicas = HttpClient(timeout=TIMEOUT_S, trust_env=False, verify=calling(nodes))
        self._edge = HttpClient(
            transport=httpx.AsyncHTTPTransport(uds=str(edge_socket)),
            base_url="http://edge",
            timeout=TIMEOUT_S,
        )

    async def scrape(self, view: View = View()) -> bytes:
        try:
            state = await self._control.state()
        except Unavailable:
            state = {"replicas": [], "waiting": {}}
        if not view.everything:
            state = of_account(state, view.account)
        beats = [beat for beat in state["replicas"] if beat["port"]]
        edge, *texts = await asyncio.gather(
            self._get(self._edge, "/metrics"),
            *(self._get(self._replicas, self._address(beat)) for beat in beats),
        )
        labels: list[Mapping[str, str]] = [_labels(beat) for beat in beats]
        door = "" if view.account else generate_latest().decode()
        own = [({"component": "edge"}, view.edge(edge)), ({"component": "door"}, door + _counted(state, view.account))]
        return merge([*own, *zip(labels, texts, strict=True)])

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


def _labels(beat: Mapping[str, Any]) -> Mapping[str, str]:
    account = {"account": beat["account"]} if beat["account"] else {}
    return {"replica": beat["replica_id"], "endpoint": beat["endpoint"], "variant": beat["variant"], **account}


def _counted(state: Mapping[str, Any], account: str) -> str:
    """Replicas and waiting requests; `account` is whose they are that carry none."""
    registry = CollectorRegistry()
    names = ["EndpointName", "VariantName", "phase", "account"]
    replicas = Gauge("hearth_replicas", "Replicas by endpoint and phase.", names, registry=registry)
    waiting = Gauge(
        "hearth_waiting", "Requests that wait for a sleeping endpoint.", ["EndpointName", "account"], registry=registry
    )
    for beat in state["replicas"]:
        replicas.labels(beat["endpoint"], beat["variant"], beat["phase"], beat["account"]).inc()
    for where, count in state["waiting"].items():
        owner, _, endpoint = where.rpartition(":")
        waiting.labels(endpoint, owner or account).set(count)
    return generate_latest(registry).decode()

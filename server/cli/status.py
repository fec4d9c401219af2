"""`hearth status`: what runs, as a table."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from server.cli.client import Hearth


def show(hearth: Hearth, console: Console, sample_s: float = 1.0) -> None:
    """Prints endpoints, replicas, requests in flight and tokens/s (measured over `sample_s`)."""
    first = hearth.call("GET", "/hearth/state")
    time.sleep(sample_s)
    state = hearth.call("GET", "/hearth/state")
    listed = hearth.call("GET", "/hearth/endpoints")["endpoints"]
    table = Table(box=None, header_style="bold")
    for title in ("endpoint", "status", "model", "replicas", "in flight", "waiting", "tokens/s", "detail"):
        table.add_column(title, overflow="fold")
    for endpoint in listed:
        document = endpoint["document"]
        for variant in document["variants"]:
            table.add_row(*_row(endpoint, variant, state, first, sample_s))
        for variant in document.get("shadows", ()):
            name, *rest = _row(endpoint, variant, state, first, sample_s)
            table.add_row(f"{name} (shadow)", *rest)
    console.print(table if listed else "no endpoints; `hearth deploy NAME --model MODEL` makes one")


def _row(endpoint: Any, variant: Any, state: Any, before: Any, sample_s: float) -> list[str]:
    name = endpoint["name"]
    mine = [r for r in state["replicas"] if (r["endpoint"], r["variant"]) == (name, variant["name"])]
    earlier = {r["replica_id"]: r["tokens_total"] for r in before["replicas"]}
    tokens = sum(max(0, r["tokens_total"] - earlier.get(r["replica_id"], r["tokens_total"])) for r in mine)
    phases = Counter(r["phase"] for r in mine)
    scaling = variant["scaling"]
    details = [r["detail"] for r in mine if r["detail"]] + ([endpoint["reason"]] if endpoint["reason"] else [])
    return [
        name if variant["name"] == "AllTraffic" else f"{name}/{variant['name']}",
        endpoint["status"],
        variant["model"] or " + ".join(container["model"] for container in variant["containers"]),
        f"{phases['ready']} of {scaling['min_replicas']}-{scaling['max_replicas']}"
        + "".join(f", {count} {phase}" for phase, count in phases.items() if phase != "ready"),
        str(sum(r["in_flight"] for r in mine)),
        str(state["waiting"].get(name, 0)),
        f"{tokens / sample_s:.0f}",
        "; ".join(dict.fromkeys(details))[:200],
    ]

"""`hearth events`: what changed, and what changes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
from rich.console import Console

from server.cli.client import Hearth

AGAIN_S = 1.0
"""Pause before a stream that ended is asked for again."""


def show(hearth: Hearth, lines: int, follow: bool, whole: bool, console: Console) -> None:
    """Prints the last `lines` events, then, with `follow`, each as it comes. `whole`: as JSON, one a line."""
    page = hearth.call("GET", f"/hearth/events?last={lines}") if lines else {"events": [], "next": None}
    for found in page["events"]:
        _print(found, whole, console)
    if follow:
        try:
            for found in _followed(hearth, page["next"]):
                _print(found, whole, console)
        except KeyboardInterrupt:
            return


def _followed(hearth: Hearth, after: int | None) -> Iterator[dict[str, Any]]:
    """Events behind the id `after` (None: from now on), for ever; a connection that ends is made anew."""
    while True:
        try:
            for found in parse(hearth.lines("/hearth/events" + (f"?after={after}" if after is not None else ""))):
                after = found["id"]
                yield found
        except httpx.TransportError:
            pass
        time.sleep(AGAIN_S)


def parse(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Server-sent events as a page has them."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line and "data" in fields:
            yield {"id": int(fields["id"]), "change": fields["event"], "event": json.loads(fields["data"])}
        name, _, value = line.partition(": ")
        fields = {**fields, name: value} if line else {}


def _print(found: dict[str, Any], whole: bool, console: Console) -> None:
    event = found["event"]
    if whole:
        console.print(json.dumps(event), markup=False, highlight=False, soft_wrap=True)
        return
    detail = event["detail"]
    kind = event["detail-type"].removeprefix("SageMaker ").removesuffix(" State Change")
    told = [detail[name] for name in detail if name.endswith(("Status", "Reason")) and isinstance(detail[name], str)]
    line = f"{event['time']}  {kind:<15} {event['resources'][0].partition('/')[2]:<40} {found['change']:<9} "
    console.print(line + " ".join(told), markup=False, highlight=False, soft_wrap=True)

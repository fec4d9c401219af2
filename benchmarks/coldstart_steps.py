"""Where the seconds of a cold start went, from a replica's log, and their picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

LATEST_S = 0.05
"""Gaps between steps below this are not named."""


@dataclass(frozen=True, slots=True)
class Step:
    """`began` in seconds since the request."""

    name: str
    began: float
    seconds: float


def of_replica(log: Path, asked: float) -> list[Step]:
    """Steps of the replica that wrote `log`, for a request sent at `asked` (seconds since 1970), in their order."""
    found: list[Step] = []
    for event in _events(log):
        match event.get("event"):
            case "replica starts":
                process = event["process_began"]
                found.append(Step("wake", 0.0, process - asked))
                found.append(Step("process", process - asked, event["began"] - process))
            case "step":
                found.append(Step(event["step"], event["began"] - asked, event["seconds"]))
            case "replica ready":
                ready = datetime.fromisoformat(event["timestamp"]).timestamp() - asked
                found.append(Step("ready", ready, 0.0))
    return found


def _events(log: Path) -> list[dict[str, Any]]:
    events = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def filled(steps: Sequence[Step], total: float) -> list[Step]:
    """The steps with what lies between them, up to `total` seconds."""
    whole: list[Step] = []
    at = 0.0
    for step in [*(each for each in steps if each.name != "ready"), Step("", total, 0.0)]:
        if step.began - at > LATEST_S:
            last = step.name == ""
            whole.append(Step("route, first token" if last else "other", at, step.began - at))
        if step.name:
            whole.append(step)
        at = max(at, step.began + step.seconds)
    return whole


def draw(arms: Mapping[str, tuple[Sequence[float], Sequence[Sequence[Step]]]], picture: Path) -> None:
    """A bar for each arm: its median start, in steps where they are known."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.7 * len(arms)), layout="constrained")
    axes = figure.subplots()
    colours: dict[str, Any] = {}
    for place, (took, steps) in enumerate(arms.values()):
        middle = statistics.median_low(took)
        found = steps[list(took).index(middle)]
        parts = filled(found, middle) if found else [Step("not told apart", 0.0, middle)]
        for part in parts:
            new = part.name not in colours
            grey = part.name in ("other", "not told apart")
            colour = colours.setdefault(part.name, "lightgrey" if grey else colormaps["tab10"](len(colours) % 10))
            axes.barh(place, part.seconds, left=part.began, color=colour, label=part.name if new else None, height=0.6)
        axes.text(middle, place, f" {middle:.1f} s", va="center")
    axes.set_yticks(range(len(arms)), list(arms))
    axes.invert_yaxis()
    axes.set(xlabel="seconds", title="From zero replicas to the first token")
    axes.margins(x=0.1)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)

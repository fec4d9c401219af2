"""`hearth shadow NAME`: how a shadow variant's answers compare with production's, as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from server.cli.client import Hearth

LOST = ("dropped", "no_replica", "refused", "timed_out", "failed")


def show(hearth: Hearth, name: str, whole: bool, console: Console) -> None:
    answer = hearth.call("GET", f"/hearth/endpoints/{name}/shadow")
    if whole:
        console.print_json(json.dumps(answer))
        return
    for report in answer["reports"]:
        about = f"{name}: {report['shadow']} beside {report['production']}, since {report['since'][:19]}"
        console.print(about + (f", experiment {report['experiment']}" if report["experiment"] else ""))
        table = Table(box=None, show_header=False)
        for line in _lines(report):
            table.add_row(*line)
        console.print(table)
    if not answer["reports"]:
        console.print(f"{name}: nothing was compared yet")


def _lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    lost = [f"{report[word]} {word.replace('_', ' ')}" for word in LOST if report[word]]
    yield "requests", f"{report['sampled']} sampled, {report['compared']} compared" + "".join(f", {w}" for w in lost)
    yield "same status", _of(report["status_equal"], report["compared"])
    yield "same answer", _of(report["answers_equal"], report["answers_compared"])
    yield "statuses", ", ".join(f"{pair}: {count}" for pair, count in report["statuses"].items()) or "-"
    latency = report["latency"]
    for share in ("p50", "p95"):
        production, shadow, ratio = (
            latency["production_ms"][share], latency["shadow_ms"][share], latency["ratio"][share],
        )  # fmt: skip
        if production is not None and shadow is not None:
            times = f" ({ratio:.2f}x)" if ratio else ""
            yield f"latency {share}", f"{production:.1f} ms, shadow {shadow:.1f} ms{times}"
    if report["similarity"]:
        similarity = report["similarity"]
        yield "similarity of texts", f"{similarity['average']:.3f} on average, {similarity['least']:.3f} at least"
    if report["largest_difference"] is not None:
        yield "largest difference", f"{report['largest_difference']:g}"


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "-"

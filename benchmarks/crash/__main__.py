"""`python -m benchmarks.crash`: kills Hearth's processes in the middle of users' calls, and checks what is left.

Users make, change and delete resources with boto3; at random points the controller, the door, the edge, Ray Serve's
controller, a replica or the store's connection is taken away. A Hearth of its own is started for it; `--database URL`
takes an empty PostgreSQL database in place of SQLite. The status is 1 when anything acknowledged was lost.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.crash.rounds import Outcome, Plan, run
from benchmarks.crash.running import started
from benchmarks.crash.sequence import upload
from benchmarks.processes import exit_on_sigterm
from benchmarks.results import PAGE, circumstances, replace_section


def main(
    sequences: Annotated[int, typer.Option(min=1, help="Users' sequences of calls.")] = 50,
    seed: Annotated[int, typer.Option(help="Of all choices; when a kill hits is up to the machine.")] = 1,
    width: Annotated[int, typer.Option(min=1, help="Sequences at once.")] = 6,
    serving: Annotated[int, typer.Option(min=0, help="Of those, how many have endpoints with replicas.")] = 3,
    faults: Annotated[int, typer.Option(min=0, help="In each sequence.")] = 3,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of an empty database; else SQLite.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder that Hearth's logs are copied to at the end.")] = None,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Kill, and check that nothing acknowledged is lost."""
    exit_on_sigterm()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hc-") as folder, started(Path(folder), database, logs) as (site, _):
        upload(site.url)
        outcome = run(site, Plan(sequences, seed, width, serving, faults), lambda text: print(text, flush=True))
    lines = [
        *circumstances()[:2],
        f"- command: `python -m benchmarks.crash --sequences {sequences} --seed {seed}"
        f"{' --database URL' if database else ''}`, {time.monotonic() - began:.0f} s",
        "",
        *table(outcome),
    ]
    print("\n".join(lines))
    for violation in outcome.violations:
        print(f"VIOLATION: {violation}")
    if write:
        title = f"Crashes on {'PostgreSQL' if database else 'SQLite'}"
        replace_section(PAGE, title, "\n".join(lines))
    sys.exit(bool(outcome.violations))


def table(outcome: Outcome) -> list[str]:
    """Markdown."""
    counts = outcome.counts
    lost = ", ".join(f"{count} {why}" for why, count in counts.lost.most_common())
    rows = {
        "sequences": outcome.sequences,
        "faults": ", ".join(f"{name} {count}" for name, count in sorted(outcome.done.kills.items())),
        "calls acknowledged": f"{counts.acknowledged} ({counts.retried} of all after a lost attempt)",
        "calls refused": counts.refused,
        "calls without an answer": counts.unknown,
        "calls that met no listener": counts.unreached,
        "lost attempts": lost or 0,
        "violations": len(outcome.violations),
        "longest heal": f"{outcome.heal_s:.1f} s",
    }
    return ["| what | how many |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]


if __name__ == "__main__":
    typer.run(main)

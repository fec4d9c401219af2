"""`python -m benchmarks.fuzz`: a real door and real guards under requests that nobody would write."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import urlsplit

import typer

from benchmarks.fuzz.report import lines
from benchmarks.fuzz.run import Tally, run
from benchmarks.fuzz.targets import GUARDS, Targets, started
from benchmarks.results import PAGE, circumstances, replace_section


def main(
    requests: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100_000,
    minutes: Annotated[float, typer.Option(help="How long at most.")] = 30.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same requests.")] = 0,
    first: Annotated[int, typer.Option(help="Number of the first request, to send some of a run again.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 8,
    url: Annotated[str | None, typer.Option(help="A Hearth that runs; else door and guards of this run's own.")] = None,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Ends with 1 when any answer was a 500, late or broken off, or when a server grew."""
    if url is not None:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        tally = asyncio.run(
            run(Targets(dict.fromkeys(("door", *GUARDS), address), {}), seed, first, requests, minutes * 60, workers)
        )
    else:
        tally = _own(seed, first, requests, minutes * 60, workers)
    text = lines(tally)
    print("\n".join(text))
    for failure in tally.failures:
        print(f"\n#{failure.number} {failure.what}\n{failure.request}")
    if write:
        replace_section(PAGE, "Fuzz", "\n".join([*circumstances(), "", *text]))
    raise typer.Exit(1 if tally.failed or tally.grown else 0)


def _own(seed: int, first: int, requests: int, seconds: float, workers: int) -> Tally:
    with started() as targets:
        tally = asyncio.run(run(targets, seed, first, requests, seconds, workers))
        if tally.failed and targets.log is not None:
            print(targets.log.read_text(errors="replace")[-20_000:])
        return tally


if __name__ == "__main__":
    typer.run(main)

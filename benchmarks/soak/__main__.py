"""`python -m benchmarks.soak --minutes 10`: everything that may happen to a Hearth happens at once.

Clients of every dialect ask endpoints that stay; users deploy, scale and delete others with boto3 (`benchmarks.crash`,
which checks that whatever was acknowledged came true); every kind of process is killed with -9. The status is 1 when
something acknowledged was lost, an answer was wrong, a request failed that no outage explains, or processes or files
were left behind.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.crash.faults import Faults
from benchmarks.crash.rounds import Outcome, Plan, run
from benchmarks.crash.running import started
from benchmarks.crash.sequence import upload
from benchmarks.crash.site import Site
from benchmarks.processes import Server, exit_on_sigterm
from benchmarks.results import PAGE, circumstances, replace_section
from benchmarks.soak import fixed
from benchmarks.soak.census import Count, count, left_behind
from benchmarks.soak.report import problems, table
from benchmarks.soak.strikes import Strikes
from benchmarks.soak.traffic import Traffic
from benchmarks.soak.verdict import Tally

CALM_S = 15.0
"""Without traffic, before processes and files are counted."""
LINGER_S = 90.0
"""What may still be open at the end after that long is left behind; kept-alive connections end before."""
RAYLET_EVERY = 4
"""Rounds of users."""


class Soak:
    """`outcome` and `tally` are all that was seen."""

    def __init__(self, site: Site, server: Server, seed: int, say: Callable[[str], None]) -> None:
        self.site = site
        self.faults = Faults(site)
        self.outcome = Outcome(done=self.faults.done)
        self.tally = Tally()
        self.counts: list[Count] = []
        self._server = server
        self._seed = seed
        self._say = say

    def run(self, minutes: float, width: int, serving: int) -> None:
        """Raises RuntimeError when the endpoints that stay do not come back."""
        fixed.await_ready(self.site)
        self.calm()
        upload(self.site.url)
        until, number = time.monotonic() + minutes * 60, 0
        with Traffic(self.site.url, self.tally):
            while time.monotonic() < until:
                number += 1
                self._round(number, width, serving)
        fixed.await_ready(self.site)
        self.calm()
        deadline = time.monotonic() + LINGER_S
        while left_behind(self.counts[0], self.counts[-1]) and time.monotonic() < deadline:
            self.counts.pop()
            self.calm()

    def calm(self) -> None:
        time.sleep(CALM_S)
        self.counts.append(count(self._server))

    def _round(self, number: int, width: int, serving: int) -> None:
        strikes = Strikes(self.site, self.faults, self._seed + number)
        plan = Plan(width, 1000 * self._seed + number, width, serving)
        seen = run(self.site, plan, lambda _: None, self.faults, strikes)
        self.outcome.sequences += seen.sequences
        self.outcome.violations += seen.violations
        self.outcome.heal_s = max(self.outcome.heal_s, seen.heal_s)
        _add(self.outcome, seen)
        fixed.await_ready(self.site)
        self.counts.append(count(self._server))
        unexplained = len(self.tally.unexplained(self.faults.done.outages))
        answers = sum(map(len, self.tally.seconds.values()))
        self._say(
            f"round {number}: {answers} answers, {len(self.tally.failures)} failures ({unexplained} unexplained), "
            f"{self.faults.done.kills.total()} kills, {len(self.outcome.violations)} violations"
        )
        if number % RAYLET_EVERY == 0:
            strikes.raylet()


def _add(outcome: Outcome, seen: Outcome) -> None:
    for name in ("acknowledged", "refused", "unknown", "unreached", "retried"):
        setattr(outcome.counts, name, getattr(outcome.counts, name) + getattr(seen.counts, name))
    outcome.counts.lost += seen.counts.lost


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="A round that has begun is ended.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Of all choices; when a kill hits is up to the machine.")] = 1,
    width: Annotated[int, typer.Option(min=1, help="Users at once.")] = 4,
    serving: Annotated[int, typer.Option(min=0, help="Of those, how many have endpoints with replicas.")] = 2,
    logs: Annotated[Path | None, typer.Option(help="Folder that Hearth's logs are copied to at the end.")] = None,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Everything at once, for as long as asked."""
    exit_on_sigterm()
    about = circumstances()
    with (
        tempfile.TemporaryDirectory(prefix="hs-") as folder,
        started(Path(folder), None, logs, fixed.config()) as (site, server),
    ):
        soak = Soak(site, server, seed, lambda text: print(text, flush=True))
        soak.run(minutes, width, serving)
    wrong = list(problems(soak.outcome, soak.tally, soak.counts))
    lines = [*about, "", *table(soak.outcome, soak.tally, soak.counts)]
    lines += ["", *(f"- **{each}**" for each in wrong)] if wrong else []
    print("\n".join(lines))
    if write:
        replace_section(PAGE, "Soak", "\n".join(lines))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    typer.run(main)

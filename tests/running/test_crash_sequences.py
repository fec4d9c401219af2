"""Users' calls while Hearth's processes are killed: what was acknowledged comes true. `python -m benchmarks.crash`
does the same at full length."""

from __future__ import annotations

import pytest

from benchmarks.crash.rounds import Plan, run
from benchmarks.crash.sequence import upload
from benchmarks.crash.site import Site
from tests.running.conftest import Hearth

PLAN = Plan(sequences=12, seed=5, width=12, serving=3, faults=1, seconds=(0.5, 2.0))


@pytest.mark.long
def test_what_was_acknowledged_outlives_every_kill(hearth: Hearth) -> None:
    assert hearth.process is not None
    upload(hearth.url)
    outcome = run(Site(hearth.url, hearth.state_dir, hearth.process.pid), PLAN, print)
    assert outcome.violations == [], hearth.tail()
    assert outcome.sequences == PLAN.sequences
    assert outcome.done.kills.total() >= PLAN.sequences
    assert outcome.counts.acknowledged > 20 * PLAN.sequences

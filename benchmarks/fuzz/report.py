"""A run as a table."""

from __future__ import annotations

from benchmarks.fuzz.run import Tally


def lines(tally: Tally) -> list[str]:
    rows = ["| requests | answers | slowest | statuses |", "| --- | --- | --- | --- |"]
    for family, statuses in sorted(tally.statuses.items()):
        shown = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        rows.append(f"| {family} | {statuses.total()} | {tally.slowest[family]:.2f} s | {shown} |")
    held = "; ".join(
        f"{name} {tally.warm[name].rss_mib:.0f} to {end.rss_mib:.0f} MiB, {tally.warm[name].files} to {end.files} files"
        for name, end in tally.end.items()
        if name in tally.warm
    )
    rate = tally.sent / max(tally.seconds, 1e-9)
    rows += ["", f"{tally.sent} requests in {tally.seconds:.0f} s ({rate:.0f}/s)"]
    rows += [f"500s, late or broken off: {tally.failed}"]
    rows += [f"from a third of the run to its end: {held}"] if held else []
    rows += [f"grew: {each}" for each in tally.grown]
    return rows

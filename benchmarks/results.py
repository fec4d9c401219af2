"""`results.md`: one section per measurement, replaced when it is measured again."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).with_name("results.md")
HEADER = "# Results\n\nWritten by the commands named in each section; README.md in this folder lists them.\n"


def replace_section(page: Path, title: str, text: str) -> None:
    """Put `text` under ``## title`` in place of what was there, or at the end."""
    old = page.read_text(encoding="utf-8") if page.exists() else HEADER
    section = f"## {title}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    new, replaced = pattern.subn(lambda _: section + "\n", old, count=1)
    if not replaced:
        new = f"{old.rstrip()}\n\n{section}"
    page.write_text(new.rstrip() + "\n", encoding="utf-8")


def circumstances() -> list[str]:
    """Date, machine and command, as lines of a list."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory.group(1)) / 2**20 if memory else 0
    return [
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- machine: {os.cpu_count()} x {model.group(1) if model else platform.machine()}, {gib:.0f} GiB, "
        f"Linux {platform.release()}, load average {os.getloadavg()[0]:.2f} when it began",
        f"- command: `{command()}`",
    ]


def command() -> str:
    """The command line of this process as one would type it, without folders of this machine."""
    script = Path(sys.argv[0])
    module = script.parent.name if script.stem == "__main__" else script.stem
    return shlex.join(["python", "-m", f"benchmarks.{module}", *map(_shown, sys.argv[1:])])


def _shown(argument: str) -> str:
    path = Path(argument)
    if not path.is_absolute():
        return argument
    inside = path.is_relative_to(PAGE.parent.parent)
    return str(path.relative_to(PAGE.parent.parent)) if inside else f".../{path.name}"


def versions(python: Path, distributions: tuple[str, ...]) -> str:
    """Versions of what is installed for that interpreter, those absent left out."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: found[n] for n in sys.argv[1:] if n in found}))"
    )
    done = subprocess.run([str(python), "-c", code, *distributions], capture_output=True, text=True, check=True)
    return ", ".join(f"{name} {version}" for name, version in json.loads(done.stdout).items())

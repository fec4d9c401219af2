"""The Python that runs a customer's code: ours, or one of its own with what `requirements.txt` asks for."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from server.deathsig import die_with_parent
from server.errors import BadRequest, ModelFailed
from server.replicas.handler.program import Program

log = structlog.get_logger(__name__)

COMPLETE = "hearth-complete"
"""File that an environment has once everything is installed in it."""
LOCK_LOOK_S = 0.2


def python_for(program: Program, cache: Path, environ: Mapping[str, str], timeout_s: float) -> Path:
    """The interpreter for `program`. What its requirements ask for is installed once for each set of them, on top
    of what Hearth has; pip's output goes to this process's own. Blocks while it installs.

    Raises BadRequest when pip refuses, ModelFailed when it does not end in time.
    """
    if program.requirements is None or not _lines(program.requirements):
        return Path(sys.executable)
    deadline = time.monotonic() + timeout_s
    folder = cache / _key(program.requirements)
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(folder.with_suffix(".lock"), deadline):
            if not (folder / COMPLETE).exists():
                _build(folder, program.requirements, environ, deadline)
    except TimeoutError:
        raise ModelFailed(f"requirements.txt was not installed within {timeout_s:g} s") from None
    return folder / "bin" / "python"


def _lines(requirements: Path) -> list[str]:
    text = requirements.read_text(encoding="utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _key(requirements: Path) -> str:
    """Hash of what decides an environment: the requirements, local files that they name, and the Python below."""
    digest = hashlib.sha256(f"{sys.version}\0{sys.prefix}\0".encode())
    home = requirements.parent.resolve()
    for line in _lines(requirements):
        digest.update(f"{line}\n".encode())
        for word in re.split(r"[\s=@]+", line):
            named = (home / word.removeprefix("file:")).resolve()
            if word and named.is_relative_to(home):
                for file in [named] if named.is_file() else sorted(named.rglob("*")):
                    digest.update(b"%b\0%b" % (file.name.encode(), file.read_bytes() if file.is_file() else b""))
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def _alone(lock: Path, deadline: float) -> Iterator[None]:
    """Holds `lock` against other processes; a lock ends with the process that holds it. Raises TimeoutError."""
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(LOCK_LOOK_S)
        yield


def _build(folder: Path, requirements: Path, environ: Mapping[str, str], deadline: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    made = [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(folder)]
    _run(made, requirements.parent, environ, deadline)
    # `--system-site-packages` means those of the Python that our own environment was made from, not ours.
    inner = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    ours = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (inner / "hearth-below.pth").write_text("".join(f"{path}\n" for path in ours), encoding="utf-8")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    _run([*pip, "-r", requirements.name], requirements.parent, environ, deadline)
    (folder / COMPLETE).touch()


def _run(command: list[str], cwd: Path, environ: Mapping[str, str], deadline: float) -> None:
    """Raises BadRequest with its last words when it fails, TimeoutError when it was ended at the deadline."""
    log.info("running", command=" ".join(command))
    words: deque[str] = deque(maxlen=5)
    with subprocess.Popen(
        command, cwd=cwd, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        errors="replace", stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent,
    ) as process:  # fmt: skip
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _end, (process.pid,))
        timer.start()
        for line in process.stdout or ():
            sys.stdout.write(line)
            if line.strip():
                words.append(line.strip())
        status = process.wait()
        timer.cancel()
    if time.monotonic() > deadline:
        raise TimeoutError
    if status != 0:
        said = " ".join(words)[-1000:]
        raise BadRequest(f"requirements.txt cannot be installed (pip ended with {status}): {said}", field="model")


def _end(pid: int) -> None:
    """Ends a process and those it started; each leads a group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)

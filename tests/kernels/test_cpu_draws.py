"""What the CPU path's draws are as a whole: the right support and frequencies, whatever the batch and the threads."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch

from kernels.sampling import cpu, cpu_team
from kernels.sampling.reference import Parameters, scaled, support_float64
from kernels.sampling.rows import Rows

DRAWS = 1 << 15


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "filters",
    [{}, {"top_k": 40}, {"top_p": 0.9}, {"min_p": 0.05}, {"top_k": 60, "top_p": 0.8}, {"top_k": 80, "min_p": 0.01}],
    ids=str,
)
def test_frequencies_fit_and_no_other_token_is_drawn(filters: dict[str, Any]) -> None:
    vocabulary, batches = 157, 6
    row = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(3)) * 1.5
    one = Rows.build(temperature=0.8, **filters)
    y = scaled(row[0].numpy(), Parameters.of(one)[0])
    must, may = support_float64(y, Parameters.of(one)[0])
    counts = np.zeros(vocabulary)
    for batch in range(batches):
        positions = list(range(batch * DRAWS, (batch + 1) * DRAWS))
        rows = Rows.build(temperature=[0.8] * DRAWS, seed=5, position=positions, **filters)
        counts += np.bincount(cpu.sample(row.expand(DRAWS, -1), rows).tokens.numpy(), minlength=vocabulary)
    assert not counts[~may].any()
    mass = np.where(must, np.exp(y.astype(np.float64) - y.max()), 0)
    expected = mass / mass.sum() * counts.sum()
    likely = expected >= 5
    rest_seen, rest_expected = counts[~likely].sum(), expected[~likely].sum()
    chi = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    chi += (rest_seen - rest_expected) ** 2 / max(rest_expected, 1)
    freedom = likely.sum()
    assert chi < freedom + 5 * np.sqrt(2 * freedom), f"chi-square {chi:.1f} of {freedom} degrees of freedom"


def test_a_token_depends_on_its_row_alone(threads: int) -> None:
    vocabulary, count = 40_001, 9
    logits = torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(1)) * 3
    temperature, top_p, top_k = [0.0, *[1.0] * 8], [1.0, 1.0, 0.9, 0.5, 1.0, 0.9, 1.0, 0.99999, 1.0], [0, 0, 0, 9] * 2
    names: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "top_k": [*top_k, 3], "seed": list(range(9))}
    before, whole = torch.get_num_threads(), cpu.sample(logits, Rows.build(**names)).tokens.tolist()
    alone = [
        cpu.sample(logits[i : i + 1], Rows.build(**{k: v[i : i + 1] for k, v in names.items()})).tokens.item()
        for i in range(count)
    ]
    backwards = cpu.sample(logits.flip(0), Rows.build(**{k: v[::-1] for k, v in names.items()})).tokens.tolist()
    assert before == threads
    assert whole == alone == backwards[::-1]
    torch.set_num_threads(1)
    assert cpu.sample(logits, Rows.build(**names)).tokens.tolist() == whole


def test_rows_may_lie_apart() -> None:
    wide = torch.randn(4, 3000, generator=torch.Generator().manual_seed(5)).to(torch.bfloat16)
    rows = Rows.build(temperature=[0.0, 1.0, 1.0, 1.0], top_p=[1.0, 1.0, 0.9, 1.0], top_k=[0, 0, 0, 7])
    for part in (wide[:, 100:2100], wide[::2, :2000], wide[:1].expand(4, -1)):
        use = rows if len(part) == 4 else Rows.build(temperature=[1.0, 1.0], top_k=[0, 7])
        assert torch.equal(cpu.sample(part, use).tokens, cpu.sample(part.contiguous(), use).tokens)


def test_the_logits_are_only_read() -> None:
    """In memory that may not be written: a write would end the process."""
    vocabulary = 8192
    memory = mmap.mmap(-1, 4 * vocabulary)
    logits = torch.frombuffer(memory, dtype=torch.float32).view(1, -1)
    logits.copy_(torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(5)))
    before = logits.clone()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(logits.data_ptr()), 4 * vocabulary, mmap.PROT_READ) == 0
    choices: list[dict[str, Any]] = [{}, {"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.1}]
    for filters in choices:
        cpu.sample(logits, Rows.build(temperature=1.0, **filters), None, 5)
    assert torch.equal(logits, before)


def test_callers_in_several_threads_do_not_meet() -> None:
    logits = torch.randn(4, 70_000, generator=torch.Generator().manual_seed(5))
    rows = [Rows.build(temperature=[1.0] * 4, top_p=0.9, seed=seed) for seed in range(4)]
    want = [cpu.sample(logits, each).tokens.tolist() for each in rows]
    got: list[list[list[int]]] = [[] for _ in rows]

    def work(i: int) -> None:
        got[i] = [cpu.sample(logits, rows[i]).tokens.tolist() for _ in range(20)]

    team = [threading.Thread(target=work, args=(i,)) for i in range(len(rows))]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert got == [[tokens] * 20 for tokens in want]


def _draw_into(answers: Queue[list[int]], logits: torch.Tensor, rows: Rows) -> None:
    answers.put(cpu.sample(logits, rows).tokens.tolist())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_draws_too() -> None:
    """OpenMP's threads do not live on in a child; waiting for them would take forever."""
    logits = torch.randn(8, 70_000, generator=torch.Generator().manual_seed(5))
    rows = Rows.build(temperature=[1.0] * 8, top_p=0.9)
    want = cpu.sample(logits, rows).tokens.tolist()
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=_draw_into, args=(answers, logits, rows))
    child.start()
    assert answers.get(timeout=60) == want
    child.join(timeout=60)
    assert child.exitcode == 0


def test_compiled_code_is_kept_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the sources, else in the user's cache folder; a new version of any source makes it stale."""
    source = tmp_path / "installed" / "kernel.py"
    source.parent.mkdir()
    source.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    beside = cpu_team.Locator.from_function(cpu.sample, str(source))
    assert beside.get_cache_path() == str(source.parent / "__pycache__")
    (source.parent / "__pycache__").rmdir()
    (source.parent / "__pycache__").touch()  # no folder can be made there
    assert cpu_team.Locator.from_function(cpu.sample, str(source)).get_cache_path() == str(
        tmp_path / "cache" / "hearth" / "kernels"
    )
    assert beside.get_source_stamp() == cpu_team._sources_digest()


def test_a_second_process_loads_what_the_first_compiled() -> None:
    cpu.warm()
    code = "from kernels.sampling import cpu, cpu_team; cpu.warm(); print(cpu_team.compiled_entry()[1].cache_hits)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "1"

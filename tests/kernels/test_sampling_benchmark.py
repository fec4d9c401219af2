"""What of the GPU benchmark can run without a GPU: its batches, its check against the reference, its tables."""

from __future__ import annotations

import pytest
import torch

from benchmarks import sampling_gpu
from benchmarks.sampling_gpu import Figure, markdown, run
from benchmarks.sampling_gpu_work import KINDS, samplers, torch_sort, verify, work
from kernels.sampling.rows import Sampled

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")
MACHINE = {
    "device": "card",
    "driver": "1",
    "cuda": "13",
    "versions": {"torch": "2.13"},
    "copy_gb_s": 3000.0,
    "empty_launch_us": 2.0,
    "verified_rows": 4,
    "seconds": 5,
    "absent": {"flashinfer": "ImportError"},
}


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_batches_are_what_the_reference_draws(kind: str, shape: str) -> None:
    item = work(kind, shape, 4, 1500, torch.bfloat16, DEVICE)
    assert verify(item) == 4
    assert next(name for name, _ in samplers(kind)) == "hearth"


def test_a_wrong_token_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    item = work("plain", "text", 2, 100, torch.float32, DEVICE)
    monkeypatch.setattr("benchmarks.sampling_gpu_work.sample_reference", lambda *_: Sampled(torch.tensor([-1, -1])))
    with pytest.raises(RuntimeError, match="is not"):
        verify(item)


def test_the_sorting_peer_keeps_to_the_filters() -> None:
    item = work("k+p", "text", 6, 900, torch.float32, DEVICE)
    ids = torch_sort(item)().flatten()
    allowed = item.ready.topk(50, dim=-1).indices
    assert all(int(token) in row.tolist() for token, row in zip(ids, allowed, strict=True))


def test_tables_say_what_is_missing() -> None:
    place = ("k+p", "text", 128_256, 64, "bf16", "warm")
    figures = [
        Figure("hearth", *place, 10.0),
        Figure("vllm", *place, 40.0, "eager: waits"),
        Figure("vllm filter", *place, 30.0),
        Figure("flashinfer", *place, None, "ImportError"),
        Figure("torch sort", *place, None, "out of time"),
    ]
    text = markdown(MACHINE, figures)
    assert "| 128256 | 64 | bf16 | 10.0 | 40.0* | 30.0 | none | out of time | 55% | 3.0 |" in text
    assert "- flashinfer took no part: ImportError" in text
    assert "- vllm: eager: waits" in text


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sampling_gpu.BUDGET_S < 480
    with pytest.raises(RuntimeError, match="no CUDA device"):
        run()

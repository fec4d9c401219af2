"""What Hearth fills in for engines on a CPU, and what it leaves as the options say."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from server.replicas import cpu_engine


@dataclass
class Arguments:
    """The part of `AsyncEngineArgs` that is looked at."""

    dtype: str = "auto"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    distributed_executor_backend: object = None
    kv_cache_memory_bytes: int | None = None
    gpu_memory_utilization: float = 0.92


@dataclass
class Omp:
    """Stands in for vLLM's manager, which reads this machine's cores."""

    cpu_lists: list[list[int]] = field(default_factory=lambda: [[0, 1, 2]])


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm.platforms.current_platform.is_cpu", lambda: True)


@pytest.mark.parametrize(("has", "wanted"), [(True, "auto"), (False, "float32")])
def test_the_type_is_one_that_the_cpu_multiplies(monkeypatch: pytest.MonkeyPatch, has: bool, wanted: str) -> None:
    monkeypatch.setattr(cpu_engine, "computes_bfloat16", lambda: has)
    arguments = Arguments()
    cpu_engine.choose(arguments)
    assert arguments.dtype == wanted


def test_what_the_options_say_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_engine, "computes_bfloat16", lambda: False)
    arguments = Arguments(dtype="bfloat16", distributed_executor_backend="mp")
    cpu_engine.choose(arguments)
    assert (arguments.dtype, arguments.distributed_executor_backend) == ("bfloat16", "mp")


def test_the_kv_cache_takes_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's default is nearly all memory there is, which no second engine would find free."""
    monkeypatch.delenv(cpu_engine.KV_SPACE, raising=False)
    arguments = Arguments()
    cpu_engine.choose(arguments)
    assert arguments.kv_cache_memory_bytes is not None
    assert 0 < arguments.kv_cache_memory_bytes < psutil.virtual_memory().total // 2


def test_the_share_is_of_what_a_container_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.utils import cpu_resource_utils

    monkeypatch.delenv(cpu_engine.KV_SPACE, raising=False)
    monkeypatch.setattr(cpu_resource_utils, "get_cgroup_memory_limit", lambda: 3 << 30)
    monkeypatch.setattr(cpu_resource_utils, "get_cgroup_memory_usage", lambda: 1 << 30)
    arguments = Arguments()
    cpu_engine.choose(arguments)
    assert arguments.kv_cache_memory_bytes is not None
    assert 0 < arguments.kv_cache_memory_bytes <= (2 << 30) // cpu_engine.KV_SHARE


@pytest.mark.parametrize("said", [{"gpu_memory_utilization": 0.5}, {"kv_cache_memory_bytes": 10}, {}])
def test_memory_that_is_said_stays(monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]) -> None:
    monkeypatch.delenv(cpu_engine.KV_SPACE, raising=False)
    if not said:
        monkeypatch.setenv(cpu_engine.KV_SPACE, "1")
    arguments = Arguments(**said)
    cpu_engine.choose(arguments)
    assert arguments.kv_cache_memory_bytes == said.get("kv_cache_memory_bytes")


def test_one_worker_runs_in_the_engine_s_process_and_several_do_not() -> None:
    from vllm.v1.executor.abstract import Executor

    one, two = Arguments(), Arguments(tensor_parallel_size=2)
    cpu_engine.choose(one)
    cpu_engine.choose(two)
    assert isinstance(one.distributed_executor_backend, type)
    assert issubclass(one.distributed_executor_backend, Executor)
    assert two.distributed_executor_backend is None


def test_the_engine_s_threads_are_counted_but_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm.utils.ompmultiprocessing.OMPProcessManager", lambda config: Omp())
    monkeypatch.delenv(cpu_engine.BIND, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    arguments = Arguments()
    cpu_engine.choose(arguments)
    config = SimpleNamespace(parallel_config=arguments)
    with cpu_engine.threads(config):
        assert os.environ["OMP_NUM_THREADS"] == "3"
        assert "OMP_PROC_BIND" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "7"

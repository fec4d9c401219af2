"""How vLLM's engine is laid out on a CPU: one process that schedules and computes, in a type the CPU is fast at.

vLLM puts the model into a process of its own there, because it sets OpenMP's environment while it starts that. The
scheduler and the model's process then poll shared memory, each for a second after its last message, and so take the
cores from whatever else runs: the API, the edge, other engines. One process needs neither the polling nor another
copy of every import; OpenMP's environment is set where the engine's process is started.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from server.settings import environment

log = structlog.get_logger(__name__)

BIND = "VLLM_CPU_OMP_THREADS_BIND"
"""vLLM's own variable: the cores to bind the engine's threads to. Not set: as many threads as vLLM would bind, bound
to none, so that several engines on one machine share its cores."""

KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
"""vLLM's own variable: GiB of KV cache. Not set, and no option either: vLLM would ask for 92 % of the machine's memory
and refuse to start beside anything else that needs some; Hearth gives each engine a share of what is free."""
KV_SHARE = 4
"""One part in so many of the memory that is available when the engine starts."""


def choose(engine_args: Any) -> None:
    """Fills in what the options leave open, for a model that runs on a CPU (`AsyncEngineArgs`, changed in place)."""
    from vllm.platforms import current_platform
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    if not current_platform.is_cpu():
        return
    if engine_args.dtype == "auto" and not computes_bfloat16():
        log.info("computing in float32: this CPU has no instructions for bfloat16", engine_option="dtype")
        engine_args.dtype = "float32"
    if _leaves_memory_open(engine_args):
        share = _free_memory() // KV_SHARE
        log.info("memory for the KV cache", bytes=share, engine_option="kv-cache-memory-bytes")
        engine_args.kv_cache_memory_bytes = share
    workers = engine_args.tensor_parallel_size * engine_args.pipeline_parallel_size * engine_args.data_parallel_size
    if workers == 1 and engine_args.distributed_executor_backend is None:
        engine_args.distributed_executor_backend = UniProcExecutor  # by its name, "uni", vLLM would make it "mp"


def _leaves_memory_open(engine_args: Any) -> bool:
    """Whether neither an option nor vLLM's variable says how much memory the KV cache may have."""
    unsaid = type(engine_args).gpu_memory_utilization
    return (
        KV_SPACE not in environment()
        and engine_args.kv_cache_memory_bytes is None
        and engine_args.gpu_memory_utilization == unsaid
    )


def _free_memory() -> int:
    """Bytes that vLLM will find free for this engine: of its memory node, within the limit of a container."""
    from vllm.utils.cpu_resource_utils import get_allowed_cpu_list, get_memory_node_info

    return int(get_memory_node_info(get_allowed_cpu_list()[0].numa_node).available_memory)


def computes_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself. One without (AVX2 alone) does so about five times slower than
    float32, though it reads half the memory."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextlib.contextmanager
def threads(config: Any) -> Iterator[None]:
    """OpenMP's environment for an engine (`VllmConfig`) whose process is started within."""
    from vllm.utils.ompmultiprocessing import OMPProcessManager
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    if config.parallel_config.distributed_executor_backend is not UniProcExecutor:
        yield  # vLLM does it itself, for each worker's process
        return
    chosen = OMPProcessManager(config)
    if BIND in environment():
        with chosen.configure_omp_envs(rank=0, local_rank=0):
            yield
    else:
        with _environ({"OMP_NUM_THREADS": str(len(chosen.cpu_lists[0]))}):
            yield


@contextlib.contextmanager
def _environ(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

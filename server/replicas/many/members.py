"""How one of many models is loaded: by the runtime that serves it alone, given a folder of its own."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from models.catalogue import infer_task
from models.formats import find_model
from server.dialects.engine import PayloadEngine
from server.dialects.identity import Identity
from server.errors import BadRequest
from server.replicas.faces import payload_engine
from server.replicas.many.model import Estimate
from server.replicas.options import PredictOptions, read
from server.replicas.predictors.engine import MODULES
from server.spec import VariantSpec

if TYPE_CHECKING:
    from server.replicas.runtimes import Runtime

HANDLER = "handler"
WORKER_BYTES = 64 * 1024**2
"""What a process for a customer's code takes before it has loaded anything, where nothing was measured yet."""

Start = Callable[[VariantSpec], Awaitable["Runtime"]]
"""Loads the model of a variant."""


class Member:
    """A `Loaded` model: a runtime like that of an endpoint of its own."""

    def __init__(self, runtime: Runtime, identity: Identity, variant: VariantSpec) -> None:
        self._runtime = runtime
        self._engine = payload_engine(runtime.engines, identity, variant.limits)

    @property
    def engine(self) -> PayloadEngine:
        return self._engine

    @property
    def pids(self) -> Sequence[int]:
        return self._runtime.pids()

    def alive(self) -> bool:
        return self._runtime.alive()

    async def stop(self) -> None:
        await self._runtime.stop()


class Members:
    """A `Loader`. `variant` says how its models are run; the place of each is the model's own."""

    def __init__(self, endpoint: str, variant: VariantSpec, start: Start) -> None:
        self._identity = Identity(endpoint, variant.name, "")
        self._variant = variant.model_copy(update={"many": None})
        self._start = start

    def estimate(self, folder: Path) -> Estimate:
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        kind = self._kind(folder)
        return Estimate(kind, size + (WORKER_BYTES if kind == HANDLER else 0))

    def prepare(self, kind: str) -> None:
        for framework, modules in MODULES.items():
            if framework == kind:
                for module in modules:
                    with suppress(ImportError):  # its loader says which package is missing
                        importlib.import_module(module)

    async def load(self, name: str, folder: Path) -> Member:
        variant = self._variant.model_copy(update={"model": str(folder)})
        return Member(await self._start(variant), self._identity, variant)

    def _kind(self, folder: Path) -> str:
        task = self._variant.task or infer_task(folder)
        if task == HANDLER or self._variant.env.get("SAGEMAKER_PROGRAM"):
            return HANDLER
        if task not in (None, "predict"):
            return str(task)
        chosen = read(PredictOptions, self._variant.model_copy(update={"engine": {}}))
        try:
            return find_model(folder, chosen.framework, allow_pickle=True).framework
        except ValueError as error:
            raise BadRequest(str(error), field="model") from error

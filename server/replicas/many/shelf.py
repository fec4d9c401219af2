"""The models that a replica holds in memory: each loaded once however many ask for it, within bounds, the least
recently used out first, and never one that is answering."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any

import structlog

from server.errors import HearthError, ModelFailed, NoSuchModel, NotReady, Throttled, Unavailable
from server.guard.model_metrics import ModelMetrics
from server.replicas.many.model import Files, Loader, Model
from server.replicas.many.prefix import failed
from server.replicas.many.space import Space

log = structlog.get_logger(__name__)

MOST_LOADING = 1024
"""Models that may be loading, or wait until they may."""


class Shelf:
    """Used on one event loop. Who took a model gives it back."""

    def __init__(
        self, files: Files, loader: Loader, space: Space, metrics: ModelMetrics, *, keep: bool
    ) -> None:
        """`keep`: a model stays when it has answered, as long as there is room."""
        self._files = files
        self._loader = loader
        self._space = space
        self._bounds = space.bounds
        self._metrics = metrics
        self._keep = keep
        self._ready: OrderedDict[str, Model] = OrderedDict()
        """By name, the least recently used first."""
        self._loading: dict[str, Model] = {}
        self._slots = asyncio.Semaphore(space.bounds.loads)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._relieving = False

    @property
    def names(self) -> list[str]:
        """Of loaded models, the least recently used first."""
        return list(self._ready)

    async def take(self, name: str) -> Model:
        """A loaded model, which stays until it is given back.

        Raises NoSuchModel, ModelFailed with why it cannot be loaded, NotReady while it is being loaded for longer than
        a request may wait or as long as models that are answering leave no room for it, Throttled, Unavailable.
        """
        if self._stopping:
            raise Unavailable("the replica is stopping")
        if (model := self._loaded(name)) is not None:
            self._ready.move_to_end(name)
            model.holds += 1
            self._metrics.asked(hit=True)
            self._look_again(model)
            return model
        self._metrics.asked(hit=False)
        model = self._loading.get(name) or self._begin(name)
        model.holds += 1
        began = time.perf_counter()
        try:
            await self._wait(model)
        except BaseException:
            self.give_back(model)
            raise
        finally:
            self._metrics.waited(time.perf_counter() - began)
        return model

    def give_back(self, model: Model, *, answered: bool = False) -> None:
        """Ends one `take`; or its waiting, where it brought nothing."""
        model.holds -= 1
        model.answered |= answered
        if model.holds:
            return
        if model.retired:
            self._go(model)
        elif model.answered and not self._keep and self._ready.get(model.name) is model:
            self._retire(model)
        elif self._space.over and not self._relieving:
            self._relieving = True
            self._do(self._relieve())
        self._space.changed()

    async def spare(self) -> bool:
        """Unloads the least recently used model that nobody uses. False: there is none."""
        idle = self._idle()
        await self._away(idle[:1])
        return bool(idle)

    async def stop(self) -> None:
        """Ends loading, and unloads all."""
        self._stopping = True
        for model in self._loading.values():
            if model.loading is not None:
                model.loading.cancel()
        loads = [model.loading for model in self._loading.values() if model.loading is not None]
        await asyncio.gather(*loads, return_exceptions=True)
        while self._ready:
            self._go(self._ready.popitem()[1])
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _loaded(self, name: str) -> Model | None:
        model = self._ready.get(name)
        if model is not None and model.loaded is not None and not model.loaded.alive():
            self._retire(model)
            return None
        return model

    def _begin(self, name: str) -> Model:
        if len(self._loading) >= MOST_LOADING:
            raise Throttled(f"{len(self._loading)} models are being loaded, as many as may be; try again")
        model = self._loading[name] = Model(name)
        model.loading = self._do(self._load(model))
        return model

    async def _wait(self, model: Model) -> None:
        assert model.loading is not None
        done, _ = await asyncio.wait((model.loading,), timeout=self._bounds.wait_s)
        if not done:
            raise NotReady(f"Model {model.name} is not ready: it is still being downloaded or loaded; try again.")
        if model.loading.cancelled():
            raise Unavailable("the replica is stopping")
        model.loading.result()

    async def _load(self, model: Model) -> None:
        """Ends with the model on the shelf, or nothing of it left."""
        try:
            model.version = await self._files.look(model.name)
            async with self._slots, asyncio.timeout(self._bounds.load_s):
                await self._bring(model)
        except BaseException as error:
            self._loading.pop(model.name, None)
            await asyncio.shield(self._do(self._unload(model)))
            if isinstance(error, TimeoutError):
                raise ModelFailed(f"model {model.name} was not loaded within {self._bounds.load_s:g} s") from None
            if isinstance(error, HearthError) or not isinstance(error, Exception):
                raise
            log.error("a model cannot be loaded", model=model.name, exc_info=error)
            raise failed(model.name, error) from error
        self._loading.pop(model.name, None)
        self._ready[model.name] = model
        self._metrics.count(len(self._ready))
        self._space.changed()
        # Not waited for: whoever makes room meanwhile may wait for this very model to have answered.
        self._do(self._relieve(but=model))

    async def _bring(self, model: Model) -> None:
        model.folder = await self._files.pinned((model.name, model.version))
        path = model.folder.path
        try:
            guess = await asyncio.to_thread(self._loader.estimate, path)
        except Exception as error:
            raise failed(model.name, error, path) from error
        await self._space.admit(model, guess, self._loader, self._idle, self._away)
        began = time.perf_counter()
        try:
            model.loaded = await self._loader.load(model.name, path)
        except Exception as error:
            raise failed(model.name, error, path) from error
        took = time.perf_counter() - began
        await self._space.weigh(model)
        self._metrics.loaded(took)
        log.info("model loaded", model=model.name, seconds=round(took, 3), bytes=model.bytes)

    def _idle(self) -> list[Model]:
        """Those that may go, the least recently used first."""
        return [model for model in self._ready.values() if not model.holds]

    async def _away(self, models: list[Model]) -> None:
        for model in models:
            self._ready.pop(model.name)
        await asyncio.gather(*(self._unload(model) for model in models))

    async def _relieve(self, but: Model | None = None) -> None:
        """Lets idle models go while there is more than the bounds allow."""
        try:
            await self._space.relieve(lambda: [model for model in self._idle() if model is not but], self._away)
        finally:
            self._relieving = False

    def _retire(self, model: Model) -> None:
        """The next request for it has it loaded anew."""
        del self._ready[model.name]
        model.retired = True
        if not model.holds:
            self._go(model)

    def _go(self, model: Model) -> None:
        self._do(self._unload(model))

    async def _unload(self, model: Model) -> None:
        """Ends what there is of a model that is on the shelf no more."""
        self._metrics.count(len(self._ready))
        loaded, model.loaded = model.loaded, None
        answered, began = loaded is not None, time.perf_counter()
        if loaded is not None:
            try:
                await loaded.stop()
            except Exception as error:
                log.error("a model did not stop", model=model.name, exc_info=error)
        del loaded
        await self._space.free(model)
        if model.folder is not None:
            folder, model.folder = model.folder, None
            self._files.unpin(folder)
            if not self._keep:
                await self._files.drop(folder)
        if answered:
            self._metrics.unloaded(time.perf_counter() - began)

    def _look_again(self, model: Model) -> None:
        """Finds out, beside the requests, whether the files below the prefix are still those that were loaded."""
        if not model.looking and time.monotonic() - model.looked >= self._bounds.check_s:
            model.looking = True
            self._do(self._compare(model))

    async def _compare(self, model: Model) -> None:
        try:
            version: str | None = await self._files.look(model.name)
        except NoSuchModel:
            version = None
        except HearthError as error:
            log.warning("a model cannot be compared", model=model.name, error=error.message)
            version = model.version
        finally:
            model.looked, model.looking = time.monotonic(), False
        if version != model.version and self._ready.get(model.name) is model:
            log.info("model replaced" if version else "model removed", model=model.name)
            self._retire(model)

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError, HearthError):
            if (error := task.exception()) is not None and not isinstance(error, HearthError):
                log.error("work on a model failed", exc_info=error)

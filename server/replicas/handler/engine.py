"""A customer's code as an engine: worker processes, and what becomes of requests when one is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from server.dialects.engine import Answer, Invocation
from server.errors import HearthError, ModelFailed, Unavailable
from server.replicas.artifacts import Artifacts
from server.replicas.handler import environment as environments
from server.replicas.handler import program as programs
from server.replicas.handler.process import Launch, Lost, Worker
from server.replicas.options import HandlerOptions
from server.replicas.stream import Stream
from server.spec import VariantSpec

log = structlog.get_logger(__name__)

MAX_LOST = 5
"""Workers lost one after another, without an answer between, before the replica calls itself dead."""
BACKOFF_S = 0.1
"""Pause before the second restart in a row; doubles with each."""
OURS = ("HEARTH_", "RAY_", "SERVE_")
"""Beginnings of variables that are about Hearth, not about the customer's code."""


@dataclass(slots=True)
class _Job:
    invocation: Invocation
    answer: asyncio.Future[Answer]
    stream: Stream | None = None
    """Where the parts of an answer go that has begun."""

    def settle(self, answer: Answer) -> bool:
        """False when nobody waits for it any more."""
        if self.answer.done():
            return False
        self.answer.set_result(answer)
        return True

    async def fail(self, error: HearthError) -> None:
        if self.stream is not None:
            await self.stream.end(error)
        elif not self.answer.done():
            self.answer.set_exception(error)


class HandlerEngine:
    """A `PayloadEngine`: hands each body to a free worker. A worker that dies or hangs costs the request that it
    had; what waits goes to the worker that replaces it.
    """

    def __init__(self, launch: Launch, workers: list[Worker], timeout_s: float) -> None:
        self._launch = launch
        self._timeout_s = timeout_s
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._lost = 0
        self._dead: str | None = None
        self._workers: dict[int, Worker] = dict(enumerate(workers))
        self._slots = [asyncio.create_task(self._serve(slot), name=f"handler {slot}") for slot in self._workers]

    @classmethod
    async def start(cls, folder: Path, variant: VariantSpec, options: HandlerOptions, artifacts: Artifacts,
                    environ: Mapping[str, str]) -> HandlerEngine:  # fmt: skip
        """Installs what the code requires, starts the workers and loads the model in each.

        Raises BadRequest for a folder or requirements that cannot be, ModelFailed with what `model_fn` raised.
        """
        program = await asyncio.to_thread(programs.find, folder, options, artifacts)
        given = worker_environment(program, variant, options, environ)
        python = await asyncio.to_thread(
            environments.python_for, program, artifacts.environments, given, options.install_timeout_s
        )
        launch = Launch(
            python, program, given, options.default_accept, options.max_answer_bytes, options.start_timeout_s
        )
        starting = [asyncio.create_task(Worker.start(launch)) for _ in range(options.workers)]
        try:
            workers = await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            for outcome in await asyncio.gather(*starting, return_exceptions=True):
                if isinstance(outcome, Worker):
                    await outcome.kill()
            raise
        return cls(launch, workers, options.timeout_s or variant.limits.request_timeout_s)

    async def invoke(self, invocation: Invocation) -> Answer:
        """See `PayloadEngine`. A request that is cancelled while a worker has it is still finished there."""
        if self._dead is not None:
            raise Unavailable(self._dead)
        job = _Job(invocation, asyncio.get_running_loop().create_future())
        self._jobs.put_nowait(job)
        try:
            return await job.answer
        except asyncio.CancelledError:
            if job.stream is not None:
                await job.stream.aclose()
            raise

    def alive(self) -> bool:
        return self._dead is None

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers.values()]

    async def stop(self) -> None:
        """Refuses what waits and ends the workers. May be called twice."""
        self._die("the replica is stopping")
        for task in self._slots:
            task.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
        self._workers.clear()

    async def _serve(self, slot: int) -> None:
        try:
            await self._serve_until_dead(slot)
        except Exception as error:
            log.error("a slot for workers is lost", exc_info=error)
            self._die(f"the replica cannot run the model's code: {type(error).__name__}")

    async def _serve_until_dead(self, slot: int) -> None:
        while self._dead is None:
            worker = self._workers[slot]
            job = await self._next_job(worker)
            try:
                if job is None:
                    raise Lost(f"an idle worker is gone: {await worker.ended()}")
                await self._answer(worker, job)
            except Lost as lost:
                log.error("worker lost", pid=worker.pid, error=str(lost))
                await worker.kill()
                await self._replace(slot)

    async def _next_job(self, worker: Worker) -> _Job | None:
        """The next request that somebody still waits for; None when the worker has ended meanwhile."""
        ended = asyncio.create_task(worker.ended())
        try:
            while not ended.done():
                getting = asyncio.create_task(self._jobs.get())
                try:
                    await asyncio.wait((getting, ended), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not getting.done():
                        getting.cancel()
                if getting.done() and not getting.cancelled():
                    job = getting.result()
                    if ended.done():
                        self._jobs.put_nowait(job)
                    elif not job.answer.done():
                        return job
            return None
        finally:
            ended.cancel()

    async def _answer(self, worker: Worker, job: _Job) -> None:
        """Raises Lost after the request was told."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._relay(worker, job)
        except HearthError as error:
            await job.fail(error)
        except TimeoutError:
            await worker.kill()
            lost = Lost(f"the model's code did not answer within {self._timeout_s:g} s; its worker was ended")
            await job.fail(ModelFailed(str(lost)))
            raise lost from None
        except Lost as lost:
            await job.fail(ModelFailed(str(lost)))
            raise
        except BaseException:
            await job.fail(Unavailable("the replica is stopping"))
            raise
        self._lost = 0

    async def _relay(self, worker: Worker, job: _Job) -> None:
        """Hands the worker's answer on. Of one that comes in parts, whoever closes it gets and costs no more."""
        first = await worker.ask(job.invocation)
        if not first.more:
            job.settle(Answer(first.body, first.content_type))
            return
        stream = job.stream = Stream()
        if not job.settle(Answer(stream, first.content_type)):
            await stream.aclose()
        reply, enough = first, False
        while reply.more:
            if not await stream.put(reply.body) and not enough:
                enough = True
                await worker.enough()
            reply = await worker.next_part()
        await stream.end()

    async def _replace(self, slot: int) -> None:
        """A new worker for the slot; the replica is dead when there can be none."""
        while self._dead is None:
            self._lost += 1
            if self._lost > MAX_LOST:
                self._die(f"the model's code was lost {self._lost} times without an answer between; see the log")
                return
            if self._lost > 1:
                await asyncio.sleep(BACKOFF_S * 2 ** (self._lost - 2))
            try:
                self._workers[slot] = await Worker.start(self._launch)
                return
            except (ModelFailed, OSError) as error:
                log.error("worker cannot be restarted", error=str(error), lost=self._lost)

    def _die(self, why: str) -> None:
        self._dead = self._dead or why
        while not self._jobs.empty():
            if not (answer := self._jobs.get_nowait().answer).done():
                answer.set_exception(Unavailable(self._dead))


def worker_environment(
    program: programs.Program, variant: VariantSpec, options: HandlerOptions, environ: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a worker: this process's without what is Hearth's, the variant's, and SageMaker's `SM_*`."""
    kept = {name: value for name, value in environ.items() if not name.startswith(OURS) and name != "PYTHONPATH"}
    cpus = max(1, int(variant.resources.num_cpus or os.cpu_count() or 1))
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variant.env,
        "SM_MODEL_DIR": str(program.model_dir),
        "SM_NUM_CPUS": str(cpus),
        "SM_NUM_GPUS": str(int(variant.resources.num_gpus + 0.999)),
        "SAGEMAKER_PROGRAM": program.file.name,
        "SAGEMAKER_SUBMIT_DIRECTORY": str(program.code_dir),
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(options.workers),
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": options.default_accept,
    }

"""Which runtime serves which task: one table, and the engine that each entry starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from models.catalogue import infer_task, resolve
from models.entry import ResolvedModel
from server.dialects.engine import EmbeddingEngine, Engines, Generation, TextEngine
from server.dialects.identity import Identity
from server.errors import BadRequest, HearthError, ModelFailed
from server.external.options import MODEL as EXTERNAL
from server.guard.metrics import ContainerMetrics
from server.metrics.periods import Periods
from server.replicas import options
from server.replicas.adapters import Loader, NoLoader
from server.replicas.artifacts import S3, Artifacts
from server.replicas.containers import Container, Direct, Serial
from server.replicas.faces import payload_engine
from server.replicas.options import HandlerOptions, PredictOptions
from server.replicas.plan import Home
from server.replicas.timed import timed
from server.settings import environment
from server.spec import ENGINE_TASKS, Task, VariantSpec

log = structlog.get_logger(__name__)

CONFIGURATION = ["config.json", "modules.json"]
"""The files that say what a model is for."""


NO_LORA = (
    "its base was started without LoRA: its container needs OPTION_ENABLE_LORA=true (or SM_VLLM_ENABLE_LORA=true) in "
    "its Environment, and OPTION_MAX_LORA_RANK where ranks are above 16"
)
PREFILL_SPARE = 8
"""vLLM may hold one request more for so many that run, as it begins several in one step."""
AHEAD = 2
"""Of other engines: what runs, and as much again that the next call takes at once."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A started engine: its faces, whether it is alive, and how to end it."""

    engines: Engines
    alive: Callable[[], bool]
    tokens: Callable[[], int]
    """Tokens generated so far (0 for engines that make none)."""
    stop: Callable[[], Awaitable[None]]
    used: Callable[[], int] = lambda: 0
    """Tokens read and generated so far."""
    adapters: Loader = field(default_factory=lambda: NoLoader("its base is not a model that vLLM runs"))
    """Puts adapters on it."""
    pids: Callable[[], Sequence[int]] = tuple
    """Processes that run a customer's code, each the leader of its group."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a runtime loads: where the model lies and what it is for."""

    source: str
    task: Task
    artifacts: Artifacts
    environ: Mapping[str, str]
    """The process's environment, as code that it runs may see it."""
    home: Home | None = None
    """Where the replica belongs."""


def locate(variant: VariantSpec, artifacts: Artifacts, home: Home | None = None) -> Loaded:
    """Finds the model and its task; what is in the object store or an archive is brought here first. Raises
    BadRequest when either cannot be told."""
    if variant.model == EXTERNAL:
        if variant.task not in (None, "external"):
            raise BadRequest(f"an external model is served as external, not {variant.task}", field="task")
        return Loaded(EXTERNAL, "external", artifacts, {}, home)
    try:
        found = ResolvedModel(variant.model) if variant.model.startswith(S3) else resolve(variant.model)
        if found.entry is None and (found.local or variant.model.startswith(S3)):
            found = resolve(str(artifacts.folder(found.location)))
    except ValueError as error:
        raise BadRequest(str(error), field="model") from error
    named: Task | None = "handler" if variant.env.get("SAGEMAKER_PROGRAM") and found.local else None
    task = variant.task or named or found.task or _told_by_config(variant.model, found)
    return Loaded(found.location, task, artifacts, dict(environment()), home)


def _told_by_config(name: str, found: ResolvedModel) -> Task:
    """The task that the model's configuration names; a hub's is downloaded first, without the weights."""
    from huggingface_hub import snapshot_download

    try:
        folder = found.location if found.local else snapshot_download(found.location, allow_patterns=CONFIGURATION)
        task = infer_task(Path(folder))
    except (OSError, ValueError) as error:
        raise BadRequest(f"The configuration of {name} cannot be read: {error}", field="model") from error
    if task is None:
        raise BadRequest(f"What {name} is for cannot be told from its config.json; say the task.", field="task")
    return task


async def start(
    endpoint: str, variant: VariantSpec, artifacts: Artifacts, home: Home | None = None, periods: Periods | None = None
) -> Runtime:
    """Loads the variant's model, or all its containers'. Takes seconds to minutes; raises what the engine raises.
    `periods` takes what is measured of many models."""
    periods = periods or Periods()
    if variant.containers:
        return await _several(endpoint, variant, artifacts, home, periods)
    if variant.many is not None:
        return await _many(endpoint, variant, artifacts, periods)
    with timed("locate"):
        loaded = await asyncio.to_thread(locate, variant, artifacts, home)
    return await STARTERS[loaded.task](endpoint, variant, loaded)


async def _many(endpoint: str, variant: VariantSpec, artifacts: Artifacts, periods: Periods) -> Runtime:
    from server.replicas.many.engine import ManyEngine

    async def one(model: VariantSpec) -> Runtime:
        loaded = await asyncio.to_thread(locate, model, artifacts)
        if STARTERS[loaded.task] is _vllm:
            raise BadRequest(f"it is for {loaded.task}, which needs vLLM; one replica can hold one engine")
        kinds: Mapping[Task, type[options.Options]] = {"predict": PredictOptions, "handler": HandlerOptions}
        known = options.names(kinds.get(loaded.task, options.Options))
        theirs = {name: value for name, value in model.engine.items() if name in known}
        return await STARTERS[loaded.task](endpoint, model.model_copy(update={"engine": theirs}), loaded)

    engine = await ManyEngine.start(endpoint, variant, artifacts, periods, one)
    return Runtime(Engines(payload=engine, many=("",)), lambda: True, lambda: 0, engine.stop)


async def _several(
    endpoint: str, variant: VariantSpec, artifacts: Artifacts, home: Home | None, periods: Periods
) -> Runtime:
    """Starts the containers in their order, once all that they need is here; none is left when one fails."""
    located: dict[str, tuple[VariantSpec, Loaded | None]] = {}
    for container in variant.containers:
        with _named(container.name):
            alone = variant.alone(container)
            loaded = None if alone.many else await asyncio.to_thread(locate, alone, artifacts, home)
            located[container.name] = alone, loaded
    engines = [name for name, (_, loaded) in located.items() if loaded and STARTERS[loaded.task] is _vllm]
    if len(engines) > 1:
        raise BadRequest(
            f"containers {', '.join(engines)} need vLLM; one replica can hold one engine", field="containers"
        )
    started: dict[str, Runtime] = {}
    try:
        for name, (alone, loaded) in located.items():
            with _named(name):
                if name in engines:
                    os.environ.update(alone.env)  # vLLM reads the process's own, as does what it starts
                if loaded is None:
                    started[name] = await _many(endpoint, alone, artifacts, periods)
                else:
                    started[name] = await STARTERS[loaded.task](endpoint, alone, loaded)
    except BaseException:
        await _stop(started)
        raise
    return Runtime(
        _composed(endpoint, variant, started),
        lambda: all(runtime.alive() for runtime in started.values()),
        lambda: sum(runtime.tokens() for runtime in started.values()),
        lambda: _stop(started),
        lambda: sum(runtime.used() for runtime in started.values()),
    )


def _composed(endpoint: str, variant: VariantSpec, started: Mapping[str, Runtime]) -> Engines:
    identity = Identity(endpoint, variant.name, "")
    containers = [
        Container(
            name,
            payload_engine(runtime.engines, identity, variant.limits),
            ContainerMetrics(endpoint, variant.name, name),
        )
        for name, runtime in started.items()
    ]
    many = tuple(name for name, runtime in started.items() if runtime.engines.many)
    held = [runtime.engines.capacity or variant.limits.max_in_flight for runtime in started.values()]
    if variant.mode == "Direct":
        return Engines(payload=Direct(containers), targets=tuple(started), many=many, capacity=sum(held))
    return Engines(payload=Serial(containers), many=many, capacity=min(held))


@contextlib.contextmanager
def _named(container: str) -> Iterator[None]:
    """Raises what goes wrong as ModelFailed that says in which container."""
    try:
        yield
    except HearthError as error:
        raise ModelFailed(f"container {container}: {error.message}") from error
    except Exception as error:
        raise ModelFailed(f"container {container}: {type(error).__name__}: {error}") from error


async def _stop(started: Mapping[str, Runtime]) -> None:
    """Ends every container, whatever becomes of the others."""
    outcomes = await asyncio.gather(*(runtime.stop() for runtime in started.values()), return_exceptions=True)
    for name, outcome in zip(started, outcomes, strict=True):
        if isinstance(outcome, Exception):
            log.error("a container did not stop", container=name, exc_info=outcome)


async def _vllm(endpoint: str, variant: VariantSpec, loaded: Loaded) -> Runtime:
    with timed("imports"):
        from server.replicas import vllm_app
        from server.replicas.llm import VllmText
        from server.replicas.pooling import VllmEmbedding
        from server.replicas.vllm_adapters import VllmAdapters

        vllm_app.imports()
    runner = "generate" if loaded.task == "generate" else "pooling"
    hosts = variant.limits.allowed_media_hosts
    with timed("arguments"):
        name = variant.component or endpoint
        arguments = vllm_app.arguments(loaded.source, name, runner, variant.engine, hosts)
    started = await vllm_app.start(arguments)
    engine = started.engine
    adapters = VllmAdapters(engine, started.models) if engine.vllm_config.lora_config is not None else None
    text = VllmText(engine, adapters) if "generate" in started.tasks else None
    embedding = VllmEmbedding(engine) if "embed" in started.tasks else None
    with timed("warm-up"):
        await _warm(text, embedding)
    seqs = int(engine.vllm_config.scheduler_config.max_num_seqs)
    engines = Engines(
        text=text,
        embedding=embedding,
        openai=started.app,
        openai_routes=started.routes,
        capacity=seqs + max(2, seqs // PREFILL_SPARE),
    )

    async def stop() -> None:
        engine.shutdown(timeout=5.0)

    return Runtime(
        engines, lambda: not engine.errored, vllm_app.generated_tokens, stop, vllm_app.used_tokens,
        adapters or NoLoader(NO_LORA),
    )  # fmt: skip


async def _warm(text: TextEngine | None, embedding: EmbeddingEngine | None) -> None:
    """Answers one request of each kind, so that no user waits for what is compiled on first use."""
    if text is not None:
        greedy = Generation(max_tokens=2, temperature=0.0)
        sampled = Generation(max_tokens=2, top_p=0.9, top_k=5, seed=0, logprobs=1)
        for parameters in (greedy, sampled):
            async for _ in text.generate("warm up", parameters, "warm-up"):
                continue
    if embedding is not None:
        await embedding.embed(["warm up"], "warm-up")


async def _vision(_endpoint: str, variant: VariantSpec, loaded: Loaded) -> Runtime:
    from server.replicas.vision import VisionEngine

    device = "cuda" if variant.resources.num_gpus else "cpu"
    engine = await VisionEngine.start(loaded.source, loaded.task, variant.limits, device)
    return Runtime(Engines(image=engine, capacity=engine.max_batch * AHEAD), engine.alive, lambda: 0, engine.stop)


async def _predict(_endpoint: str, variant: VariantSpec, loaded: Loaded) -> Runtime:
    from server.replicas.predictors.engine import PredictEngine

    chosen = options.read(PredictOptions, variant)
    engine = await PredictEngine.start(_folder(loaded), variant, chosen)
    return Runtime(Engines(payload=engine, capacity=chosen.max_batch * AHEAD), engine.alive, lambda: 0, engine.stop)


async def _handler(_endpoint: str, variant: VariantSpec, loaded: Loaded) -> Runtime:
    from server.replicas.handler.engine import HandlerEngine

    chosen = options.read(HandlerOptions, variant)
    engine = await HandlerEngine.start(_folder(loaded), variant, chosen, loaded.artifacts, loaded.environ)
    engines = Engines(payload=engine, capacity=chosen.workers * AHEAD)
    return Runtime(engines, engine.alive, lambda: 0, engine.stop, pids=lambda: engine.pids)


async def _external(endpoint: str, variant: VariantSpec, loaded: Loaded) -> Runtime:
    from server.replicas import external

    made, vault = await external.start(endpoint, variant.name, variant.engine, loaded.home)

    async def stop() -> None:
        await made.close()
        vault.close()

    return Runtime(made.engines, lambda: True, lambda: made.chain.tokens, stop, lambda: made.chain.used)


def _folder(loaded: Loaded) -> Path:
    folder = Path(loaded.source)
    if not folder.is_absolute():
        raise BadRequest(f"{loaded.task} needs a folder or an archive, not the hub's {loaded.source}", field="model")
    return folder


STARTERS: dict[Task, Callable[[str, VariantSpec, Loaded], Awaitable[Runtime]]] = {
    **dict.fromkeys(ENGINE_TASKS, _vllm),
    "image-classification": _vision,
    "object-detection": _vision,
    "predict": _predict,
    "handler": _handler,
    "external": _external,
}

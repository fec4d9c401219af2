"""Starts vLLM inside a replica: an `AsyncLLM` and vLLM's own OpenAI application on top of it.

The application is put together from vLLM's own builders (`vllm.entrypoints.launchers`), without two
of their steps: its middleware (the guard does that work) and the SageMaker container bootstrap, which
would install a model folder's `requirements.txt` and import its `model.py` into this process.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from starlette.responses import Response
from starlette.types import ASGIApp

from server.dialects.errors import openai_error
from server.errors import BadRequest
from server.replicas import cpu_engine
from server.replicas.llm import as_hearth_error
from server.replicas.timed import timed

OURS = frozenset(
    "host port uds ssl-keyfile ssl-certfile ssl-ca-certs ssl-cert-reqs ssl-ciphers root-path middleware "
    "api-key headless api-server-count served-model-name model task runner allowed-origins "
    "allow-credentials allowed-methods allowed-headers log-config-file enable-server-load-tracking "
    "data-parallel-external-lb data-parallel-hybrid-lb config allowed-media-domains allowed-local-media-path".split()
)
"""Engine flags that belong to Hearth: listening, naming and routing."""

NO_HOST = "none.invalid"
"""A host that cannot exist (RFC 2606)."""

ANSWERABLE = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/models",
    "/v1/score",
    "/v1/rerank",
    "/v1/messages",
    "/score",
    "/rerank",
    "/classify",
    "/pooling",
    "/tokenize",
    "/detokenize",
)
"""Routes of vLLM's application that Hearth names; a model answers those of them that it has."""

OWN_PATHS = {
    "/v1/tokenize": "/tokenize",
    "/v1/detokenize": "/detokenize",
    "/v1/classify": "/classify",
    "/v1/pooling": "/pooling",
}
"""Routes that vLLM serves outside `/v1`, and the address Hearth gives them."""


GENERATED, READ = "vllm:generation_tokens_total", "vllm:prompt_tokens_total"
"""Series of vLLM's own."""


@dataclass(frozen=True, slots=True)
class VllmApp:
    """A running engine (`AsyncLLM`), its application and the routes of it that may be called."""

    engine: Any
    app: ASGIApp
    routes: frozenset[str]
    tasks: tuple[str, ...]
    models: Any
    """vLLM's `OpenAIServingModels`: the model and its adapters, as the application knows them."""


def flags(options: Mapping[str, JsonValue]) -> list[str]:
    """Engine options as vLLM's command line has them. Raises BadRequest for one that is Hearth's own."""
    argv: list[str] = []
    for name, value in options.items():
        option = name.replace("_", "-").lstrip("-")
        if option in OURS:
            raise BadRequest(f"engine option {name!r} is set by Hearth itself", field=f"engine.{name}")
        if value is True:
            argv.append(f"--{option}")
        elif value is False:
            argv.append(f"--no-{option}")
        elif value is not None:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            argv += [f"--{option}", text]
    return argv


def arguments(
    model: str, served_name: str, runner: str, options: Mapping[str, JsonValue], media_hosts: Sequence[str] = ()
) -> argparse.Namespace:
    """Parsed arguments of vLLM's server. Raises BadRequest with the parser's own words.

    `media_hosts` are the only hosts that media may be fetched from. The guard holds to that already; this is the
    second fence, as vLLM takes an empty list to allow every host.
    """
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> None:
            raise BadRequest(f"engine options: {message}", field="engine")

    given = ["--model", model, "--served-model-name", served_name, "--runner", runner]
    fenced = ["--allowed-media-domains", *(media_hosts or [NO_HOST])]
    parsed = make_arg_parser(Parser(add_help=False)).parse_args([*given, *flags(options), *fenced])
    try:
        validate_parsed_serve_args(parsed)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"engine options: {error}", field="engine") from error
    return parsed  # type: ignore[no-any-return]


def imports() -> None:
    """Imports what `start` needs, which takes seconds where it was not done before."""
    import vllm.engine.arg_utils
    import vllm.entrypoints.launchers.api_server.app_state
    import vllm.entrypoints.launchers.api_server.routers
    import vllm.entrypoints.launchers.cli_args
    import vllm.v1.engine.async_llm  # noqa: F401


async def start(args: argparse.Namespace) -> VllmApp:
    """The engine, loaded and warmed, and its application. Takes seconds to minutes."""
    from fastapi import FastAPI
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.api_server.routers import register_api_routers
    from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    with timed("configuration"):
        engine_args = AsyncEngineArgs.from_cli_args(args)
        cpu_engine.choose(engine_args)
        config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    with timed("engine"), cpu_engine.threads(config):
        engine = AsyncLLM.from_vllm_config(
            vllm_config=config,
            usage_context=UsageContext.OPENAI_API_SERVER,
            disable_log_stats=engine_args.disable_log_stats,
        )
    with timed("application"):
        await engine.reset_mm_cache()
        tasks = tuple(await engine.get_supported_tasks())
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        app.state.args = args
        register_api_routers(args, app, tasks, engine.model_config)
        init_exception_handler(app)
        # vLLM's own handler ends the server when the engine is dead; here Ray Serve does, once it has looked.
        for kind in (EngineDeadError, EngineGenerateError):
            app.exception_handler(kind)(_engine_failed)
        await init_app_state(engine, app.state, args, tasks)
    models = app.state.openai_serving_models
    return VllmApp(engine=engine, app=_Renamed(app), routes=_routes(_paths(app)), tasks=tasks, models=models)


async def _engine_failed(_request: Any, error: Exception) -> Response:
    return openai_error(as_hearth_error(error))


def generated_tokens() -> int:
    """Tokens that the engines of this process have generated so far."""
    return _counted(GENERATED)


def used_tokens() -> int:
    """Those, and the ones that they have read. From vLLM's own counters, which `disable-log-stats` stops."""
    return _counted(GENERATED, READ)


def _counted(*names: str) -> int:
    from prometheus_client import REGISTRY

    families = REGISTRY.restricted_registry(names).collect()
    return int(sum(sample.value for family in families for sample in family.samples if sample.name in names))


def _paths(app: Any) -> list[str]:
    return [route.path for route in app.routes if hasattr(route, "path")]


def _routes(mounted: Sequence[str]) -> frozenset[str]:
    named = {path for path in mounted if path in ANSWERABLE and path.startswith("/v1/")}
    return frozenset(named | {ours for ours, theirs in OWN_PATHS.items() if theirs in mounted})


class _Renamed:
    """Gives vLLM's routes outside `/v1` the addresses in OWN_PATHS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if theirs := OWN_PATHS.get(scope["path"]):
            scope = {**scope, "path": theirs, "raw_path": theirs.encode()}
        await self.app(scope, receive, send)

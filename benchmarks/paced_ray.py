"""Ray Serve LLM in front of paced engines, with its prefix cache router or its default one.

Run by the peer environment's Python from a folder that holds this file and `paced_prefix.py`, and nothing that would
hide a package of that environment. Prints `ready` and serves until it is terminated.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ray
from paced_prefix import TALLY, Paced  # type: ignore[import-not-found]
from ray import serve
from ray.llm._internal.serve.core.engine.protocol import LLMEngine
from ray.serve.config import RequestRouterConfig
from ray.serve.llm import LLMConfig, build_openai_app
from ray.serve.llm.request_router import PrefixCacheAffinityRouter


class PacedEngine(LLMEngine):  # type: ignore[misc]
    """In place of vLLM (`RAYLLM_VLLM_ENGINE_CLS`)."""

    def __init__(self, _config: LLMConfig) -> None:
        self._paced = Paced()

    async def start(self) -> None:
        """There is nothing to load."""

    def routing_stats(self) -> dict[str, Any]:
        return {}

    async def completions(self, request: Any, _info: Any = None) -> AsyncIterator[str]:
        async for event in self._paced.events(request.prompt, request.max_tokens):
            yield event

    def chat(self, _request: Any, _info: Any = None) -> AsyncIterator[str]:
        raise NotImplementedError

    def embeddings(self, _request: Any, _info: Any = None) -> AsyncIterator[str]:
        raise NotImplementedError

    def transcriptions(self, _request: Any, _info: Any = None) -> AsyncIterator[str]:
        raise NotImplementedError

    async def resolve_lora(self, _lora: Any) -> None:
        raise NotImplementedError

    async def reset_prefix_cache(self) -> None:
        raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, help="folder with a configuration that the peer can read")
    parser.add_argument("--replicas", type=int, required=True)
    given = parser.parse_args()
    env = {
        "RAYLLM_VLLM_ENGINE_CLS": "paced_ray.PacedEngine",
        "PYTHONPATH": str(Path(__file__).resolve().parent),
        TALLY: os.environ[TALLY],
    }
    ray.init(address="local", num_cpus=32, include_dashboard=False, runtime_env={"env_vars": env})
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    config = LLMConfig(
        model_loading_config={"model_id": "bench", "model_source": given.model},
        accelerator_config={"kind": "cpu"},
        runtime_env={"env_vars": env},
        deployment_config={
            "num_replicas": given.replicas,
            "max_ongoing_requests": 1024,
            "request_router_config": RequestRouterConfig(request_router_class=PrefixCacheAffinityRouter),
        },
    )
    serve.run(build_openai_app({"llm_configs": [config]}), blocking=False)
    print("ready", flush=True)
    left = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: left.set())
    left.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()

"""The Ray Serve LLM arm: run by the peer environment's Python, so it imports nothing of Hearth.

Prints `ready` when the application is healthy and serves until it is terminated.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

SLEEPS = {
    "autoscaling_config": {
        "min_replicas": 0, "initial_replicas": 1, "max_replicas": 1, "downscale_delay_s": 2.0,
        "downscale_to_zero_delay_s": 2.0, "upscale_delay_s": 0.0, "metrics_interval_s": 0.5, "look_back_period_s": 2.0,
    }
}  # fmt: skip
"""A deployment that goes soon after its last request, and comes at once."""


def replicas() -> int:
    """Those of the model, in whatever state; the ingress stays."""
    found = (app.deployments for app in serve.status().applications.values())
    return sum(
        sum(each.replica_states.values())
        for deployments in found
        for name, each in deployments.items()
        if not name.lower().startswith("openaiingress")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True, help="model name that clients send")
    parser.add_argument("--model", required=True, help="folder of the weights")
    parser.add_argument("--engine", default="{}", help="vLLM engine arguments as JSON")
    parser.add_argument("--env", default="{}", help="environment of the engine's processes as JSON")
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--sleeps", action="store_true", help="no replica while there is nothing to do")
    parser.add_argument("--num-cpus", type=int, default=8, help="CPUs to declare to Ray")
    given = parser.parse_args()
    ray.init(address="local", num_cpus=given.num_cpus, include_dashboard=False, log_to_driver=True)
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    config = LLMConfig(
        model_loading_config={"model_id": given.name, "model_source": given.model},
        engine_kwargs=json.loads(given.engine),
        accelerator_config={"kind": given.accelerator},
        runtime_env={"env_vars": json.loads(given.env)},
        deployment_config={"max_ongoing_requests": 1024, **(SLEEPS if given.sleeps else {"num_replicas": 1})},
    )
    serve.run(build_openai_app({"llm_configs": [config]}), blocking=False)
    print("ready", flush=True)
    left = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: left.set())
    shown = -1
    while not left.wait(0.5):
        if given.sleeps and (count := replicas()) != shown:
            shown = count
            print(f"replicas {count}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()

"""From a document to a Ray Serve application. Pure: nothing is started here."""

from __future__ import annotations

from ray import serve
from ray.serve import Application

from server.replicas.deployment import Replica
from server.replicas.environ import variables
from server.replicas.plan import Home, Plan
from server.replicas.scaling import autoscaling
from server.spec import EndpointSpec, VariantSpec

MIB = 1024 * 1024


def application(endpoint: EndpointSpec, variant: VariantSpec, home: Home) -> Application:
    """The application that serves `variant`: one deployment whose replicas listen themselves."""
    options = {
        "num_cpus": variant.resources.num_cpus,
        "num_gpus": variant.resources.num_gpus,
        **({"memory": variant.resources.memory_mb * MIB} if variant.resources.memory_mb else {}),
        "runtime_env": {
            "env_vars": dict(variables(variant, sampler=home.sampler)),
            **({"py_executable": home.python} if home.python is not None else {}),
        },
    }
    deployment = serve.deployment(
        Replica,
        name="replica",
        ray_actor_options=options,
        autoscaling_config=autoscaling(variant.scaling),
        max_ongoing_requests=10_000,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=home.drain_timeout_s + 15.0,
        health_check_period_s=2.0,
        health_check_timeout_s=30.0,
        max_constructor_retry_count=2,
    )
    # Ray Serve gives each deploy a version of its own, which would restart every replica when only the
    # scaling changed; a fixed one is reachable through this call alone.
    versioned = deployment.options(version=variant.revision, _internal=True)
    return versioned.bind(Plan(endpoint.name, variant, home))

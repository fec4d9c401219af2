"""How many replicas a variant should have, from what its replicas report."""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from server.spec import Scaling

IN_FLIGHT = "in_flight"
"""Name of the figure that replicas report through `record_autoscaling_stats`."""


def in_flight_policy(context: Any) -> tuple[float, dict[str, Any]]:
    """Replicas for the requests in flight on all of them, plus those that wait in a wake-up.

    Runs in Ray Serve's controller, which applies bounds and delays afterwards.
    """
    reported = (context.aggregated_metrics or {}).get(IN_FLIGHT, {})
    if context.target_num_replicas and not reported:
        return context.target_num_replicas, {}  # still loading: nothing is known, so nothing is taken away
    in_flight = sum(reported.values()) + context.total_num_requests
    return in_flight / context.config.get_target_ongoing_requests(), {}


def autoscaling(scaling: Scaling) -> AutoscalingConfig:
    """Ray Serve's form of `scaling`. A new endpoint starts with one replica even if it may sleep later,
    so that a model that cannot load is seen at once.
    """
    return AutoscalingConfig(
        min_replicas=scaling.min_replicas,
        initial_replicas=max(1, scaling.min_replicas),
        max_replicas=scaling.max_replicas,
        target_ongoing_requests=scaling.target_in_flight,
        upscale_delay_s=scaling.upscale_delay_s,
        downscale_delay_s=scaling.downscale_delay_s,
        downscale_to_zero_delay_s=scaling.idle_before_zero_s,
        metrics_interval_s=0.5,
        look_back_period_s=2.0,
        policy=AutoscalingPolicy(policy_function=in_flight_policy),
    )

"""The replica count follows the requests in flight, and a loading replica is left to load."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server.replicas.scaling import IN_FLIGHT, autoscaling, in_flight_policy
from server.spec import Scaling


def context(reported: dict[str, float], target: int, waiting: float = 0.0) -> Any:
    return SimpleNamespace(
        aggregated_metrics={IN_FLIGHT: reported} if reported else None,
        total_num_requests=waiting,
        target_num_replicas=target,
        config=autoscaling(Scaling(max_replicas=8, target_in_flight=4)),
    )


@pytest.mark.parametrize(
    ("reported", "wanted"), [({"a": 0.0}, 0), ({"a": 4.0}, 1), ({"a": 6.0, "b": 6.0}, 3), ({"a": 30.0, "b": 2.0}, 8)]
)
def test_replicas_follow_requests_in_flight(reported: dict[str, float], wanted: int) -> None:
    assert in_flight_policy(context(reported, 1))[0] == wanted


def test_a_replica_that_still_loads_is_kept() -> None:
    assert in_flight_policy(context({}, 1))[0] == 1


def test_a_sleeping_deployment_stays_asleep_until_someone_waits() -> None:
    assert in_flight_policy(context({}, 0))[0] == 0
    assert in_flight_policy(context({}, 0, waiting=4))[0] == 1


def test_a_new_endpoint_that_may_sleep_starts_awake() -> None:
    assert autoscaling(Scaling(min_replicas=0)).initial_replicas == 1

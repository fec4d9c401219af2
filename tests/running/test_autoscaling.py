"""A load step under Application Auto Scaling: replicas follow it up and down, and no request fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from benchmarks.autoscaling import CODE, NAME, VARIANT, scale
from tests.running.conftest import Hearth
from tests.running.test_scaling import Load


@pytest.fixture
def elastic(hearth: Hearth, tmp_path: Path) -> Iterator[Any]:
    """A client of Application Auto Scaling, and an endpoint that answers one request at a time, in 0.1 s."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(CODE)
    variant = {"model": str(tmp_path / "model"), "resources": {"num_cpus": 0.1}}
    hearth.http.put(f"/hearth/endpoints/{NAME}", json=variant).raise_for_status()
    hearth.wait("it is in service", lambda: hearth.endpoints()[NAME]["status"] == "InService")
    named = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    made = boto3.client("application-autoscaling", endpoint_url=hearth.url, **named)
    yield made
    made.close()
    hearth.http.delete(f"/hearth/endpoints/{NAME}")
    hearth.wait("it is gone", lambda: NAME not in hearth.endpoints())


@pytest.mark.long
def test_replicas_follow_a_load_step(hearth: Hearth, elastic: Any) -> None:
    first = hearth.replicas(NAME)[0]["replica_id"]
    with Load(hearth, NAME, 1) as calm:
        with Load(hearth, NAME, 7) as busy:
            scale(elastic, most=3, target=2.0, cooldown=0)
            hearth.wait("more replicas", lambda: len(hearth.replicas(NAME)) > 1)
            assert hearth.endpoints()[NAME]["status"] == "InService"
            assert first in [each["replica_id"] for each in hearth.replicas(NAME)]  # it stayed
        hearth.wait("one replica again", lambda: len(hearth.replicas(NAME)) == 1)
        served = sum(calm.statuses.values())
        hearth.wait("requests went on", lambda: sum(calm.statuses.values()) > served + 5)
    assert set(busy.statuses) == set(calm.statuses) == {200}, (busy.statuses, calm.statuses)
    inward, *_, outward = elastic.describe_scaling_activities(**VARIANT)["ScalingActivities"]
    assert "AlarmHigh" in outward["Cause"]
    assert "AlarmLow" in inward["Cause"]
    assert outward["StatusCode"] == "Successful"
    elastic.deregister_scalable_target(**VARIANT)

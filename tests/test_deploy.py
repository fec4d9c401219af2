"""The manifests of docs/deploy say what the code and the image understand, and name one another."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from server.settings import Settings, load

ROOT = Path(__file__).parents[1]
MANIFESTS: dict[str, dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all((ROOT / "docs/deploy/kuberay.yaml").read_text())
}
STORAGE = list(yaml.safe_load_all((ROOT / "docs/deploy/storage.yaml").read_text()))
CLUSTER = MANIFESTS["RayCluster"]["spec"]
HEAD = CLUSTER["headGroupSpec"]["template"]["spec"]["containers"][0]
WORKER = CLUSTER["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
DATABASE = "postgresql+psycopg://hearth:p@hearth-database:5432/hearth"
OBJECTS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
"""Variables that are botocore's."""


def environ() -> dict[str, str]:
    found = {"status.podIP": "10.0.0.5", "database_url": DATABASE, "objects_access_key": "k", "objects_secret_key": "s"}
    values = {}
    for each in HEAD["env"]:
        source = each.get("valueFrom", {})
        key = source.get("fieldRef", {}).get("fieldPath") or source.get("secretKeyRef", {}).get("key")
        values[each["name"]] = found[key] if key else each["value"]
    return values


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = tmp_path_factory.mktemp("deploy") / "hearth.yaml"
    file.write_text(MANIFESTS["ConfigMap"]["data"]["hearth.yaml"])
    return load(file, environ(), host="0.0.0.0")


def test_every_variable_is_a_setting_and_together_they_are_safe(settings: Settings) -> None:
    known = {f"HEARTH_{name.upper()}" for name in Settings.model_fields}
    assert set(environ()) - OBJECTS <= known
    assert {each["name"] for each in WORKER["env"]} == OBJECTS
    assert settings.authenticates
    assert settings.secure
    assert settings.nodes_secure
    assert [endpoint.name for endpoint in settings.endpoints] == ["my-vision-endpoint"]


def test_ports_and_folders_are_those_of_the_settings(settings: Settings) -> None:
    ports = {port["name"]: port["containerPort"] for port in HEAD["ports"]}
    assert ports["https"] == settings.port == MANIFESTS["Service"]["spec"]["ports"][0]["port"]
    assert ports["control"] == settings.control_port
    assert settings.ray_address == f"127.0.0.1:{ports['gcs-server']}"
    for container in (HEAD, WORKER):
        mounted = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "shared"]
        assert settings.master_keys.is_relative_to(mounted[0])


def test_a_pod_has_longer_to_end_than_a_replica_has_to_drain(settings: Settings) -> None:
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > settings.drain_timeout_s


def test_ray_is_the_one_that_is_installed_and_the_image_the_one_that_is_built() -> None:
    assert CLUSTER["rayVersion"] == version("ray")
    dockerfile = (ROOT / "Dockerfile").read_text()
    for container in (HEAD, WORKER):
        assert f"-t {container['image']} " in dockerfile
    assert "useradd --uid 1000" in dockerfile


def test_secrets_are_asked_for_where_they_are() -> None:
    keys = MANIFESTS["Secret"]["stringData"]
    assert set(keys) == {"auth_token", "database_url", "objects_access_key", "objects_secret_key"}
    assert not any(keys.values())
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": MANIFESTS["Secret"]["metadata"]["name"]}


def test_database_and_objects_are_where_the_settings_look_for_them(settings: Settings) -> None:
    services, policies, sets = (
        {each["metadata"]["name"]: each["spec"] for each in STORAGE if each["kind"] == kind}
        for kind in ("Service", "NetworkPolicy", "StatefulSet")
    )
    ports = {name: each["ports"][0]["port"] for name, each in services.items()}
    for address in (settings.database_url, settings.objects_url):
        where = urlsplit(str(address))
        assert ports.pop(where.hostname) == where.port
    assert not ports
    policy = policies["hearth-storage"]
    assert policy["podSelector"]["matchExpressions"][0]["values"] == list(sets)
    assert all(each["template"]["metadata"]["labels"] == {"app": name} for name, each in sets.items())
    assert policy["ingress"][0]["from"][0] == MANIFESTS["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]

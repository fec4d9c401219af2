"""Sampling: this project's kernels beside vLLM's own sampler, in one run.

    python -m benchmarks.sampling             # on a GPU what belongs there, else on the CPU
    python -m benchmarks.sampling --engine    # tokens/s of whole engines on the CPU, with the sampler on and off

Prints tables of medians and ratios and puts them into results.md. On a GPU it needs torch and Triton, nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.results import PAGE, circumstances, replace_section


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=__doc__)
    parser.add_argument("--engine", action="store_true", help="whole engines on the CPU, not the sampler alone")
    parser.add_argument("--seconds", type=float, default=0.15, help="on the CPU: least time of a cell's rounds")
    parser.add_argument("--full", action="store_true", help="on the CPU: every vocabulary in every table (10 minutes)")
    parser.add_argument("--json", type=Path, help="on a GPU: write every figure to this file too")
    parser.add_argument("--no-write", action="store_true", help="leave results.md alone")
    return parser.parse_args()


def measured(chosen: argparse.Namespace) -> tuple[str, str]:
    """(title, Markdown) of what was asked for."""
    if chosen.engine:
        from benchmarks import sampling_engine

        return "Sampling inside vLLM on a CPU", sampling_engine.run()
    if torch.cuda.is_available():
        from benchmarks import sampling_gpu

        return "Sampling on a GPU", sampling_gpu.run(json_path=chosen.json)
    from benchmarks import sampling_cpu

    return "Sampling on a CPU", sampling_cpu.run(chosen.seconds, chosen.full)


if __name__ == "__main__":
    chosen, lines = arguments(), circumstances()
    title, text = measured(chosen)
    text = "\n".join([*lines, text])
    print(text)
    if not chosen.no_write:
        replace_section(PAGE, title, text)
